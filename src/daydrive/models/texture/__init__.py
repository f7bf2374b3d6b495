"""The default architecture: a decoder that moves the last real image, kept in a texture memory."""
