"""Callbacks as in Keras 3: objects whose hooks `fit`, `evaluate` and `predict` call on their way.

    class Watch(gpucnn.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            print(epoch, logs["val_loss"])

    model.fit(x, y, callbacks=[Watch()])

`self.model` is the model; setting `self.model.stop_training = True` ends training after the batch
or epoch. What a callback must keep when training is interrupted and resumed, it returns from
`get_state` and takes back in `set_state`.
"""

from ..retired import absent
from .backup_and_restore import BackupAndRestore
from .callback import HOOKS, Callback
from .callback_list import CallbackList
from .csv_logger import CSVLogger
from .early_stopping import EarlyStopping
from .history import History
from .lambda_callback import LambdaCallback
from .learning_rate import LearningRateScheduler, ReduceLROnPlateau
from .model_checkpoint import ModelCheckpoint
from .progbar_logger import ProgbarLogger
from .tensorboard import TensorBoard
from .terminate_on_nan import TerminateOnNaN

__all__ = [
    "HOOKS",
    "BackupAndRestore",
    "CSVLogger",
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "History",
    "LambdaCallback",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "ProgbarLogger",
    "ReduceLROnPlateau",
    "TensorBoard",
    "TerminateOnNaN",
]

__getattr__ = absent(
    __name__,
    {
        "RemoteMonitor": "use LambdaCallback(on_epoch_end=...) to send the logs",
        "SwapEMAWeights": "with use_ema=True the optimizer's average replaces the weights at the end of training",
        "OrbaxCheckpoint": "use ModelCheckpoint or BackupAndRestore",
        "BaseLogger": "the logs hold means over the epoch already",
    },
)
