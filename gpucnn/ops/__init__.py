"""What gpucnn computes, one file per family of ops: shape rule, NumPy body and cases of each op."""
