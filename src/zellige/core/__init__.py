"""Layer 0: the types and the post-processing that training, evaluation and the station share."""

import os

# OpenCV reads these once, when it is imported: a picture that claims more than 2^28 pixels is not decoded, and what is
# wrong with a file is said by our errors alone.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(1 << 28))
os.environ.setdefault("OPENCV_LOG_LEVEL", "FATAL")
