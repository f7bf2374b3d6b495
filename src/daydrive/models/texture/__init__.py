"""The default architecture: a decoder that warps the last real frame, stored in a texture memory."""
