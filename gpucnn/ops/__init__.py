"""What gpucnn computes: shape rule, NumPy body and cases of each op, a file for each family."""
