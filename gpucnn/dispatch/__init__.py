"""An op, its kernels and the door between them."""
