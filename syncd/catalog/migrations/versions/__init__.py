"""One file per revision. Its SQL never changes once it is released."""
