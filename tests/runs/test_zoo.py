"""The models of the course texts are what the texts say, to the parameter."""

import numpy as np
import pytest

from gpucnn.errors import ArgumentError, ShapeError
from gpucnn.optimizers import schedules
from gpucnn.optimizers.schedules import InverseTimeDecay
from gpucnn.runs import zoo
from gpucnn.runs.training import Training


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("mnist_convnet", 34_826),
        ("slides", 38_390),
        ("mlearning", 484_714),
        ("keras-intro", 121_930),
        ("torres", 62_346),
        ("torres-wide", 479_178),
        ("torres-batchnorm", 13_017_770),
        ("cifar", 3_702_186),
    ],
)
def test_each_model_has_the_parameters_of_its_text(name, parameters):
    entry = zoo.find(name)
    model = entry.build()
    assert model.count_params() == parameters
    assert model.input_shape == (None, *entry.input_shape)
    assert model.output_shape == (None, 10)


@pytest.mark.parametrize(
    ("name", "optimizer", "rate", "batch_size", "epochs"),
    [
        ("mnist_convnet", "Adam", 0.001, 128, 15),
        ("slides", "RMSprop", 1e-4, 128, 50),
        ("mlearning", "SGD", 0.01, 128, 50),
        ("keras-intro", "Adam", 0.001, 32, 10),
        ("torres", "SGD", 0.01, 100, 5),
    ],
)
def test_each_training_is_that_of_its_text(name, optimizer, rate, batch_size, epochs):
    training = zoo.find(name).training
    chosen = training.make_optimizer()
    assert type(chosen).__name__ == optimizer
    assert chosen.learning_rate == pytest.approx(rate)
    assert (training.batch_size, training.epochs) == (batch_size, epochs)
    assert training.loss == "sparse_categorical_crossentropy"


def test_the_old_decay_of_the_cifar_text_is_an_inverse_time_decay():
    config = zoo.find("cifar").training.make_optimizer().get_config()
    assert config["momentum"] == 0.5
    schedule = config["learning_rate"]
    assert schedule["class_name"] == "InverseTimeDecay"
    rate = InverseTimeDecay.from_config(schedule["config"])
    assert [float(rate(step)) for step in (0, 2500)] == pytest.approx([0.01, 0.01 / (1 + 0.0004 * 2500)])


def test_hyphens_underscores_and_case_do_not_matter_in_names():
    assert zoo.find("keras_intro") is zoo.find("Keras-Intro") is zoo.find("keras-intro")
    assert zoo.find("mnist-convnet").name == zoo.DEFAULT == zoo.names()[0]


def test_an_unknown_name_is_answered_with_the_nearest_one():
    with pytest.raises(
        ArgumentError, match=r"there is no model 'slide': did you mean 'slides'\? the models are mnist_convnet, "
    ):
        zoo.find("slide")
    with pytest.raises(ArgumentError, match="there is no model 'resnet50': the models are"):
        zoo.find("resnet50")


def test_a_model_takes_other_images_and_another_number_of_classes():
    model = zoo.find("torres").build((32, 32, 3), 7)
    assert model.input_shape == (None, 32, 32, 3)
    assert model.output_shape == (None, 7)


def test_images_that_are_too_small_are_refused_with_the_sizes_on_the_way():
    with pytest.raises(ShapeError, match=r"Sizes so far: input \(8, 8, 1\) → .*\(4, 4, 10\)"):
        zoo.find("slides").build((8, 8, 1))


def test_a_training_is_changed_by_the_arguments():
    training = zoo.find("cifar").training
    assert training.altered() == training
    slower = training.altered(learning_rate=0.001, epochs=3, batch_size=7)
    assert (slower.learning_rate, slower.epochs, slower.batch_size) == (0.001, 3, 7)
    assert (slower.decay, slower.options) == (training.decay, training.options)
    rate = slower.make_optimizer().get_config()["learning_rate"]["config"]["initial_learning_rate"]
    assert rate == 0.001


def test_another_optimizer_leaves_the_rate_and_the_options_of_the_old_one():
    training = zoo.find("cifar").training.altered(optimizer="Adam")
    assert type(training.make_optimizer()).__name__ == "Adam"
    assert training.make_optimizer().learning_rate == pytest.approx(0.001)
    assert zoo.find("slides").training.altered(optimizer="RMSprop").learning_rate == 1e-4
    with pytest.raises(ArgumentError, match="unknown optimizer 'adamm': did you mean 'adam"):
        training.altered(optimizer="adamm").make_optimizer()


def test_a_data_set_may_have_a_special_recipe(monkeypatch):
    entry = zoo.find("slides")
    chosen = Training("adam", batch_size=16, epochs=2)
    monkeypatch.setitem(zoo._SPECIAL, ("slides", "digits"), chosen)
    assert entry.training_for("digits") is chosen
    assert entry.training_for("mnist") is entry.training


def test_trainings_are_written_in_words():
    assert str(zoo.find("cifar").training) == "sgd momentum 0.5 decay 0.0004, batch 512, 25 epochs"
    assert str(zoo.find("slides").training) == "rmsprop 0.0001, batch 128, 50 epochs"


def test_an_entry_describes_itself_in_json_values():
    described = zoo.find("slides").describe()
    assert described["parameters"] == 38_390
    convolutions = 2 * 24 * 24 * 10 * 25 + 2 * 8 * 8 * 20 * 250
    assert described["flops_per_image"] == pytest.approx(convolutions + 2 * 320 * 100 + 2 * 100 * 10, rel=0.05)
    assert described["training"]["optimizer"] == "rmsprop"


def test_a_model_of_the_zoo_learns(problem):
    x, y = problem
    entry = zoo.Entry(
        "tiny", lambda classes: zoo.find("torres").layers(classes)[-2:], Training("adam", 32, 3), "here", (8, 8, 1)
    )
    model = entry.build(classes=4)
    model.compile(entry.training.make_optimizer(), entry.training.loss, metrics=["accuracy"])
    history = model.fit(x, y, batch_size=32, epochs=20, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert np.isfinite(history.history["loss"]).all()


def test_a_schedule_takes_the_rate_of_the_training_over_all_steps():
    training = zoo.find("cifar").training
    for name, end in (("constant", 1), ("linear", 0), ("cosine", 0), ("exponential", 0.01)):
        optimizer = training.altered(learning_rate=0.5, schedule=name).make_optimizer(100)
        rate = optimizer.get_config()["learning_rate"]
        if name == "constant":
            assert rate == 0.5
            continue
        rate = getattr(schedules, rate["class_name"]).from_config(rate["config"])
        assert [float(rate(step)) for step in (0, 100)] == pytest.approx([0.5, 0.5 * end])
        assert 0.5 * end < float(rate(50)) < 0.5
    with pytest.raises(ArgumentError, match="decay_steps"):
        training.altered(schedule="cosine").make_optimizer()


def rates(training, *steps, of):
    described = training.make_optimizer(of).get_config()["learning_rate"]
    schedule = getattr(schedules, described["class_name"]).from_config(described["config"])
    return [float(schedule(step)) for step in steps]


def test_the_one_cycle_rises_in_the_first_30_percent_of_the_steps_and_falls_to_0():
    training = Training("adam", batch_size=1, epochs=1, learning_rate=0.5, schedule="one-cycle")
    assert rates(training, 0, 15, 30, 65, 100, of=100) == pytest.approx([0.02, 0.26, 0.5, 0.25, 0])


def test_the_rate_of_an_epoch_is_that_of_the_one_before_times_the_epoch_decay():
    training = Training("adam", batch_size=1, epochs=4, learning_rate=0.5, epoch_decay=0.9)
    assert rates(training, 0, 24, 25, 99, of=100) == pytest.approx([0.5, 0.5, 0.45, 0.5 * 0.9**3])
    assert str(training) == "adam 0.5 times 0.9 each epoch, batch 1, 4 epochs"
    assert training.altered(optimizer="sgd").epoch_decay == training.altered(schedule="linear").epoch_decay == 1


def test_weight_decay_reaches_the_optimizer_and_keeps_its_other_options():
    training = zoo.find("cifar").training.altered(weight_decay=0.01)
    assert training.make_optimizer().weight_decay == 0.01
    assert training.options == {"momentum": 0.5, "weight_decay": 0.01}
    assert zoo.find("slides").training.altered(optimizer="adamw", weight_decay=0).make_optimizer().weight_decay == 0


def test_cifar_is_trained_on_cifar10_unless_another_model_is_named():
    assert zoo.default_for("cifar10").name == "cifar"
    assert {zoo.default_for(name).name for name in ("digits", "mnist", "fashion_mnist", "pets")} == {zoo.DEFAULT}
