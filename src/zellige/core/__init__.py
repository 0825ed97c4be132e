"""Layer 0: the types and the post-processing that training, evaluation and the station share."""
