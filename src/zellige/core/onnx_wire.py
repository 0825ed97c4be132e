"""Look into an ONNX file without the onnx package: does it point to data outside of itself?

ONNX Runtime resolves external data against the working directory when a model is loaded from memory, so a hostile
model could read any file there. This walks the protobuf wire format: a field is a varint key (number << 3 | type)
and a value; type 0 is a varint, 1 eight bytes, 2 a length and as many bytes, 5 four bytes.

Source: https://protobuf.dev/programming-guides/encoding/ and onnx/onnx.proto (field numbers below).
"""

from collections.abc import Iterator

from zellige.core.errors import BundleError

_CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse_tensor"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse_tensor", 23: "sparse_tensor"},
    "sparse_tensor": {1: "tensor", 2: "tensor"},
}
"""Field numbers, per message of onnx.proto, that lead to a tensor."""
_TENSOR_EXTERNAL_DATA = 13
_TENSOR_DATA_LOCATION = 14
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_DEPTH = 64


def refuse_external_data(model: bytes, where: str) -> None:
    """Refuse an ONNX model any tensor of which lies in another file: in graphs, subgraphs, functions, attributes.

    Raises:
        BundleError: external data, or not a well-formed ONNX file.
    """
    pending = [("model", memoryview(model), 0)]
    has_graph = False
    while pending:
        message, data, depth = pending.pop()
        if depth > _MAX_DEPTH:
            raise BundleError(f"bundle {where}: model.onnx: expected at most {_MAX_DEPTH} nested messages, got more")
        for number, value in _fields(data, where):
            if message == "tensor":
                if number == _TENSOR_EXTERNAL_DATA or (number == _TENSOR_DATA_LOCATION and value != 0):
                    raise BundleError(
                        f"bundle {where}: model.onnx: expected all weights inside, got external data (another file)"
                    )
                continue
            child = _CHILDREN[message].get(number)
            if child is None:
                continue
            if not isinstance(value, memoryview):
                raise _malformed(where)
            has_graph = has_graph or (message, child) == ("model", "graph")
            pending.append((child, value, depth + 1))
    if not has_graph:
        raise BundleError(f"bundle {where}: model.onnx: expected an ONNX model with a graph, got none")


def _fields(data: memoryview, where: str) -> Iterator[tuple[int, int | memoryview]]:
    position, end = 0, len(data)
    while position < end:
        key, position = _varint(data, position, where)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, position = _varint(data, position, where)
            yield number, value
            continue
        if kind == _BYTES:
            size, position = _varint(data, position, where)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise _malformed(where)
        if number == 0 or position + size > end:
            raise _malformed(where)
        yield number, data[position : position + size]
        position += size


def _varint(data: memoryview, position: int, where: str) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise _malformed(where)


def _malformed(where: str) -> BundleError:
    return BundleError(f"bundle {where}: model.onnx: expected a well-formed ONNX file, got a damaged one")
