"""The code of five Keras course texts, old spellings modernised, runs with only its import lines changed."""

import re

import numpy as np
import pytest

import gpucnn
from gpucnn import Sequential

SLIDES = """
from gpucnn.datasets import mnist
(x_train, y_train), (x_test, y_test) = mnist.load_data()
x_train_vec = x_train.reshape((60000, 28, 28, 1)) / 255.0
x_test_vec = x_test.reshape((10000, 28, 28, 1)) / 255.0

def to_one_hot(labels, dimension=10):
    results = np.zeros((len(labels), dimension))
    for i, label in enumerate(labels):
        results[i, label] = 1.
    return results

y_train_vec = to_one_hot(y_train)
y_test_vec = to_one_hot(y_test)
rand_indices = np.random.permutation(60000)
train_indices = rand_indices[0:50000]
valid_indices = rand_indices[50000:60000]
x_valid_vec = x_train_vec[valid_indices, :, :, :]
y_valid_vec = y_train_vec[valid_indices, :]
x_train_vec = x_train_vec[train_indices, :, :, :]
y_train_vec = y_train_vec[train_indices, :]

from gpucnn import models
from gpucnn import layers
model = models.Sequential()
model.add(layers.Conv2D(10, (5, 5), activation='relu', input_shape=(28, 28, 1)))
model.add(layers.MaxPooling2D((2, 2)))
model.add(layers.Conv2D(20, (5, 5), activation='relu'))
model.add(layers.MaxPooling2D((2, 2)))
model.add(layers.Flatten())
model.add(layers.Dense(100, activation='relu'))
model.add(layers.Dense(10, activation='softmax'))
model.summary()

from gpucnn import optimizers
model.compile(optimizers.RMSprop(learning_rate=0.0001), loss='categorical_crossentropy', metrics=['accuracy'])
history = model.fit(x_train_vec, y_train_vec, batch_size=128, epochs=50, validation_data=(x_valid_vec, y_valid_vec))
import matplotlib.pyplot as plt
epochs = range(len(history.epoch)) # 50 is the number of epochs
train_acc = history.history['accuracy']
valid_acc = history.history['val_accuracy']
plt.plot(epochs, train_acc, 'bo', label='Training Accuracy')
plt.plot(epochs, valid_acc, 'r', label='Validation Accuracy')
plt.xlabel('Epochs')
plt.ylabel('Accuracy')
plt.legend()
plt.show()
loss_and_acc = model.evaluate(x_test_vec, y_test_vec)
print('loss = ' + str(loss_and_acc[0]))
print('accuracy = ' + str(loss_and_acc[1]))
"""

KERAS_INTRO = """
from gpucnn.datasets import mnist
from gpucnn.models import Sequential
from gpucnn.layers import Conv2D, MaxPooling2D, Flatten, Dense
from gpucnn.utils import to_categorical

(x_train, y_train), (x_test, y_test) = mnist.load_data()
y_train = to_categorical(y_train, 10)
y_test = to_categorical(y_test, 10)
x_train = x_train.reshape(x_train.shape[0], 28, 28, 1)
x_test = x_test.reshape(x_test.shape[0], 28, 28, 1)
model = Sequential()
model.add(Conv2D(32, (3, 3), activation='relu', input_shape=(28, 28, 1)))
model.add(MaxPooling2D((2, 2)))
model.add(Conv2D(64, (3, 3), activation='relu'))
model.add(MaxPooling2D((2, 2)))
model.add(Flatten())
model.add(Dense(64, activation='relu'))
model.add(Dense(10, activation='softmax'))
model.compile(optimizer='adam', loss='categorical_crossentropy', metrics=['accuracy'])
model.summary()
model.fit(x_train, y_train, epochs=10, batch_size=32)
loss, accuracy = model.evaluate(x_test, y_test)
print(f'Loss: {loss}, Accuracy: {accuracy}')
"""

TORRES = """
from gpucnn import datasets
from gpucnn.models import Sequential
from gpucnn.layers import Conv2D, MaxPooling2D, Flatten, Dense
from gpucnn.utils import to_categorical

(train_images, train_labels), (test_images, test_labels) = datasets.mnist.load_data()
model = Sequential()
model.add(Conv2D(32, (5, 5), activation='relu', input_shape=(28, 28, 1)))
model.add(MaxPooling2D((2, 2)))
model.add(Conv2D(64, (5, 5), activation='relu'))
model.add(MaxPooling2D((2, 2)))
model.add(Flatten())
model.add(Dense(10, activation='softmax'))
model.summary()
train_images = train_images.reshape((60000, 28, 28, 1))
train_images = train_images.astype('float32') / 255
test_images = test_images.reshape((10000, 28, 28, 1))
test_images = test_images.astype('float32') / 255
train_labels = to_categorical(train_labels)
test_labels = to_categorical(test_labels)
model.compile(loss='categorical_crossentropy', optimizer='sgd', metrics=['accuracy'])
model.fit(train_images, train_labels, batch_size=100, epochs=5, verbose=1)
test_loss, test_acc = model.evaluate(test_images, test_labels)
print('Test accuracy:', test_acc)
"""

TORRES_IN_STEPS = """
from gpucnn import models
from gpucnn import layers
from gpucnn import Sequential
from gpucnn.layers import Conv2D
from gpucnn.layers import MaxPooling2D

model = Sequential()
model.add(Conv2D(32, (5, 5), activation='relu', input_shape=(28, 28, 1)))
model.add(MaxPooling2D((2, 2)))
model.summary()

model = models.Sequential()
model.add(layers.Conv2D(32,(5,5),activation='relu',
                                input_shape=(28,28,1)))
model.add(layers.MaxPooling2D((2, 2)))
model.add(layers.Conv2D(64, (5, 5), activation='relu'))
model.add(layers.MaxPooling2D((2, 2)))
assert model.count_params() == 52_096
model.add(layers.Flatten())
model.add(layers.Dense(10, activation='softmax'))
assert model.count_params() == 62_346
"""

TORRES_FASHION_1 = """
import gpucnn as keras
from gpucnn import Sequential
from gpucnn.layers import Conv2D, MaxPooling2D, Flatten, Dense

fashion_mnist = keras.datasets.fashion_mnist

(train_images, train_labels), (test_images, test_labels) = fashion_mnist.load_data()
class_names = ['T-shirt/top', 'Trouser', 'Pullover', 'Dress', 'Coat', 'Sandal', 'Shirt', 'Sneaker', 'Bag', 'Ankle boot']
train_images = train_images.reshape((60000, 28, 28, 1))
train_images = train_images.astype('float32') / 255
test_images = test_images.reshape((10000, 28, 28, 1))
test_images = test_images.astype('float32') / 255
model = Sequential()
model.add(Conv2D(32, (5, 5), activation='relu', input_shape=(28, 28, 1)))
model.add(MaxPooling2D((2, 2)))
model.add(Conv2D(64, (5, 5), activation='relu'))
model.add(MaxPooling2D((2, 2)))
model.add(Flatten())
model.add(Dense(10, activation='softmax'))
model.summary()
model.compile(optimizer='sgd', loss='sparse_categorical_crossentropy', metrics=['accuracy'])
model.fit(train_images, train_labels, epochs=5)
test_loss, test_acc = model.evaluate(test_images,  test_labels)
print('Test accuracy:', test_acc)
"""

TORRES_FASHION_2 = (
    TORRES_FASHION_1[: TORRES_FASHION_1.index("model = Sequential")]
    + """
model = Sequential()
model.add(Conv2D(64, (7, 7), activation="relu", padding="same", input_shape=(28, 28, 1)))
model.add(MaxPooling2D(2, 2))
model.add(Conv2D(128, (3, 3), activation="relu", padding="same"))
model.add(MaxPooling2D(2, 2))
model.add(Flatten())
model.add(Dense(64, activation="relu"))
model.add(Dense(10, activation="softmax"))
"""
    + TORRES_FASHION_1[TORRES_FASHION_1.index("model.summary()") :]
)

TORRES_FASHION_3 = TORRES_FASHION_2.replace("optimizer='sgd'", "optimizer='adam'")

TORRES_FASHION_4 = """
from gpucnn import datasets
from gpucnn.models import Sequential
from gpucnn.layers import Conv2D, MaxPooling2D, Flatten, Dense, BatchNormalization, Dropout
from gpucnn.optimizers import Adam

fashion_mnist = datasets.fashion_mnist
(train_images, train_labels), (test_images, test_labels) = fashion_mnist.load_data()
class_names = ['T-shirt/top', 'Trouser', 'Pullover', 'Dress', 'Coat', 'Sandal', 'Shirt', 'Sneaker', 'Bag', 'Ankle boot']
train_images = train_images.reshape((60000, 28, 28, 1))
train_images = train_images.astype('float32') / 255
test_images = test_images.reshape((10000, 28, 28, 1))
test_images = test_images.astype('float32') / 255

def make_model():
    model = Sequential()
    model.add(Conv2D(filters=32, kernel_size=(3, 3), activation='relu', strides=1, padding='same',
                     input_shape=(28, 28, 1)))
    model.add(BatchNormalization())
    model.add(Conv2D(filters=32, kernel_size=(3, 3), activation='relu', strides=1, padding='same'))
    model.add(BatchNormalization())
    model.add(Dropout(0.25))
    model.add(Conv2D(filters=64, kernel_size=(3, 3), activation='relu', strides=1, padding='same'))
    model.add(MaxPooling2D(pool_size=(2, 2)))
    model.add(Dropout(0.25))
    model.add(Conv2D(filters=128, kernel_size=(3, 3), activation='relu', strides=1, padding='same'))
    model.add(BatchNormalization())
    model.add(Dropout(0.25))
    model.add(Flatten())
    model.add(Dense(512, activation='relu'))
    model.add(BatchNormalization())
    model.add(Dropout(0.5))
    model.add(Dense(128, activation='relu'))
    model.add(BatchNormalization())
    model.add(Dropout(0.5))
    model.add(Dense(10, activation='softmax'))
    return model

model = make_model()
model.summary()
optimizer = Adam(learning_rate=0.001)
model.compile(optimizer=optimizer, loss='sparse_categorical_crossentropy', metrics=['accuracy'])
model.fit(train_images, train_labels, epochs=5)
test_loss, test_acc = model.evaluate(test_images, test_labels)
print('Test accuracy:', test_acc)
"""

TORRES_FASHION_5 = (
    TORRES_FASHION_4.replace("epochs=5)", "epochs=30, callbacks=[reduce_lr])").replace(
        "model.fit(",
        """
from gpucnn.callbacks import LearningRateScheduler
reduce_lr = LearningRateScheduler(lambda x: 1e-3 * 0.9 ** x)
model.fit(""",
    )
    + """
from gpucnn.callbacks import EarlyStopping, ReduceLROnPlateau
early_stop = EarlyStopping(monitor='val_loss', patience=10)
plateau = ReduceLROnPlateau(monitor='val_loss', factor=0.2, patience=5, min_lr=0.0001)
history = model.fit(train_images, train_labels, epochs=30, validation_split=0.2, callbacks=[early_stop, plateau])
"""
)

MLEARNING = """
from gpucnn.datasets import mnist
from gpucnn.models import Sequential
from gpucnn.layers import Conv2D, MaxPool2D, Flatten, Dense
from gpucnn.utils import to_categorical

(X_train, y_train), (X_test, y_test) = mnist.load_data()
X_train = X_train.reshape(-1, 28, 28, 1).astype('float32') / 255
X_test = X_test.reshape(-1, 28, 28, 1).astype('float32') / 255
y_train, y_test = to_categorical(y_train), to_categorical(y_test)
model = Sequential([
    Conv2D(32, (5, 5), padding='same', activation='relu', input_shape=(28, 28, 1)),
    Conv2D(32, (5, 5), padding='same', activation='relu'),
    MaxPool2D((2, 2)),
    Conv2D(64, (3, 3), padding='same', activation='relu'),
    Conv2D(64, (3, 3), padding='same', activation='relu'),
    MaxPool2D((2, 2)),
    Flatten(),
    Dense(128, activation='relu'),
    Dense(10, activation='softmax'),
])
model.compile(optimizer='rmsprop', loss='categorical_crossentropy', metrics=['accuracy'])
model.summary()
history = model.fit(X_train, y_train, batch_size=128, epochs=50, validation_data=(X_test, y_test))
y_pred = model.predict(X_test).argmax(axis=1)
"""

CIFAR = """
from gpucnn.optimizers import SGD
from gpucnn.optimizers.schedules import InverseTimeDecay
from gpucnn.datasets import cifar10
from gpucnn.models import Sequential
from gpucnn.layers import Conv2D, MaxPooling2D, Dropout, Flatten, Dense
from gpucnn.callbacks import EarlyStopping
from gpucnn import utils

(X, y), (X_test, y_test) = cifar10.load_data()
X, X_test = X.astype('float32')/255.0, X_test.astype('float32')/255.0
y, y_test = utils.to_categorical(y, 10), utils.to_categorical(y_test, 10)
model = Sequential()
model.add(Conv2D(32, (3, 3), input_shape=(32, 32, 3), padding='same', activation='relu'))
model.add(Dropout(0.2))
model.add(Conv2D(32, (3, 3), activation='relu', padding='valid'))
model.add(MaxPooling2D(pool_size=(2, 2)))
model.add(Flatten())
model.add(Dense(512, activation='relu'))
model.add(Dropout(0.3))
model.add(Dense(10, activation='softmax'))
model.summary()
model.compile(loss='categorical_crossentropy',
              optimizer=SGD(learning_rate=InverseTimeDecay(0.01, 1, 0.0004), momentum=0.5), metrics=['accuracy'])
earlystop = EarlyStopping(monitor = 'val_loss', min_delta = 0, patience = 3, verbose = 1, restore_best_weights = True)
model.fit(X, y, validation_data=(X_test, y_test), epochs=25, batch_size=512, callbacks=[earlystop])
print("Accuracy: %.2f%%" % (model.evaluate(X_test, y_test)[1] * 100))
"""

TOWARDSAI_PIECES = """
from gpucnn.models import Sequential
from gpucnn.layers import Conv1D, Conv2D, Dense, Dropout, GlobalMaxPooling1D, MaxPooling1D, MaxPooling2D
from gpucnn.callbacks import EarlyStopping

model = Sequential()
model.add(Conv2D(32, (3, 3), input_shape=(32, 32, 3), padding='same', activation='relu'))
model.add(Conv2D(32, (3, 3), activation='relu', padding='valid'))
model.add(MaxPooling2D(pool_size=(2, 2)))
assert model.output_shape == (None, 15, 15, 32)

model = Sequential()
model.add(Conv1D(filters=32, kernel_size=3, padding='same', activation='relu', input_shape=(16, 2)))
model.add(MaxPooling1D(pool_size=2))
model.add(Conv1D(filters=32, kernel_size=3, padding='same', activation='relu'))
model.add(Dropout(0.2))
model.add(GlobalMaxPooling1D())
model.add(Dense(512, activation='relu'))
model.add(Dense(10, activation='softmax'))
model.summary()
model.compile(loss='categorical_crossentropy', optimizer='sgd', metrics=['accuracy'])
earlystop = EarlyStopping(monitor = 'val_loss', min_delta = 0, patience = 3, verbose = 1, restore_best_weights = True)
x, y = np.random.rand(40, 16, 2), np.eye(10)[np.arange(40) % 10]
model.fit(x, y, validation_data=(x, y), epochs=25, batch_size=20, callbacks=[earlystop])
"""

MLEARNING_RESULTS = (
    MLEARNING
    + """
from gpucnn import metrics, plots

def train_model(model, X_train, y_train, X_test, y_test):
    model.compile(optimizer='adam', loss='categorical_crossentropy', metrics=['accuracy'])
    history = model.fit(X_train, y_train, batch_size=128, epochs=50, validation_data=(X_test, y_test))
    model.evaluate(X_test, y_test)
    return history

train_model(model, X_train, y_train, X_test, y_test)
probabilities = model.predict(X_test[:32])
y_true = y_test[:32].argmax(axis=1)
print(metrics.classification_report(y_true, probabilities))
plots.confusion_matrix(y_true, probabilities)
plots.predictions(X_test[:32], y_true, probabilities)
history.plot()
"""
)

TEXTS = {
    "slides": (SLIDES, 38_390),
    "keras-intro": (KERAS_INTRO, 121_930),
    "torres": (TORRES, 62_346),
    "torres-in-steps": (TORRES_IN_STEPS, 832),
    "torres-fashion-1": (TORRES_FASHION_1, 62_346),
    "torres-fashion-2": (TORRES_FASHION_2, 479_178),
    "torres-fashion-3": (TORRES_FASHION_3, 479_178),
    "torres-fashion-4": (TORRES_FASHION_4, 13_017_770),
    "torres-fashion-5": (TORRES_FASHION_5, 13_017_770),
    "mlearning": (MLEARNING, 484_714),
    "mlearning-results": (MLEARNING_RESULTS, 484_714),
    "cifar": (CIFAR, 3_702_186),
    "towardsai-pieces": (TOWARDSAI_PIECES, None),
}


@pytest.fixture
def small_data(monkeypatch):
    """Data sets of the published shapes, and training cut to one batch."""
    rng = np.random.default_rng(0)

    def load(shape, label_shape):
        def load_data(*_, **__):
            def part(n):
                images = np.broadcast_to(rng.integers(0, 256, (1, *shape), dtype=np.uint8), (n, *shape))
                return images, rng.integers(0, 10, (n, *label_shape), dtype=np.uint8)

            return part(50_000 if len(label_shape) else 60_000), part(10_000)

        return load_data

    monkeypatch.setattr(gpucnn.datasets.mnist, "load_data", load((28, 28), ()))
    monkeypatch.setattr(gpucnn.datasets.fashion_mnist, "load_data", load((28, 28), ()))
    monkeypatch.setattr(gpucnn.datasets.cifar10, "load_data", load((32, 32, 3), (1,)))
    fit, evaluate, predict = Sequential.fit, Sequential.evaluate, Sequential.predict

    def short_fit(self, *args, **kwargs):
        kwargs["epochs"] = 1
        return fit(self, *args, **kwargs, steps_per_epoch=1, validation_steps=1)

    monkeypatch.setattr(Sequential, "fit", short_fit)
    monkeypatch.setattr(Sequential, "evaluate", lambda self, x, y: evaluate(self, x, y, steps=1))
    monkeypatch.setattr(Sequential, "predict", lambda self, x: predict(self, x, steps=1))


@pytest.mark.parametrize("text", TEXTS)
def test_course_text_runs_with_only_its_imports_changed(text, small_data, capsys, recwarn):
    code, parameters = TEXTS[text]
    exec(compile(code, text, "exec"), {"np": np})
    printed = capsys.readouterr().out
    if parameters is not None:
        assert re.search(rf"Total params: {parameters:,} ", printed)
    warned = [str(w.message) for w in recwarn]
    assert sum("unscaled" in w for w in warned) == (text == "keras-intro")
