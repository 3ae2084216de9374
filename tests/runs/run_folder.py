"""What a run folder holds, before and after training."""

SETTINGS = {"dataset": "digits", "model": "slides", "seed": 3, "epochs": 2, "batch_size": 20, "note": "not MNIST"}
RESULTS = {"seconds": 1.5, "images_per_second": 100.0, "train_accuracy": 0.9, "test_accuracy": 0.8, "test_loss": 0.7}


def temporary_files(folder):
    return [path for path in folder.rglob("*") if path.name.endswith(".gpucnn-tmp")]
