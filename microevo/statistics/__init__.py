"""What a materials scientist measures on a microstructure: one number, or one curve, per frame."""
