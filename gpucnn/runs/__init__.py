"""Training runs in their folders, their pictures, and the models that have names."""
