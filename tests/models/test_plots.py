"""Pictures agree with the numbers, and leave no warnings or traces in matplotlib's state."""

import io
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib import colors as colours
from PIL import Image

import gpucnn
from gpucnn import layers, plots
from gpucnn.callbacks import curves
from gpucnn.errors import ArgumentError, DataError, FileError, ShapeError

HISTORY = {"loss": [1.0, 0.5, 0.25], "accuracy": [0.5, 0.7, 0.9], "val_loss": [1.1, 0.6, 0.4]}


def pixels(picture):
    """The drawn picture as an RGB array; drawing it is part of each test."""
    return np.asarray(Image.open(io.BytesIO(picture.png())).convert("RGB"))


def texts(picture):
    """Every text in the picture."""
    return [t.get_text() for t in picture.findobj(matplotlib.text.Text) if t.get_visible() and t.get_text()]


@pytest.fixture
def model():
    return gpucnn.Sequential(
        [
            gpucnn.Input((12, 12, 1)),
            layers.Conv2D(10, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(20, 3, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ]
    )


# -- learning curves ---------------------------------------------------------------------------------------------------


def test_learning_curves_show_each_value_at_its_epoch():
    picture = curves.learning_curves(HISTORY, "a title", "a note")
    loss, accuracy = picture.axes
    lines = {line.get_label(): line for line in loss.lines}
    np.testing.assert_array_equal(lines["training"].get_xdata(), [1, 2, 3])
    np.testing.assert_array_equal(lines["training"].get_ydata(), HISTORY["loss"])
    np.testing.assert_array_equal(lines["validation"].get_ydata(), HISTORY["val_loss"])
    assert [line.get_label() for line in accuracy.lines] == ["training"]
    assert "a title\na note" in texts(picture)
    assert pixels(picture).std() > 0


def test_learning_curves_take_what_fit_returned(small_model, problem):
    model = small_model()
    picture = curves.learning_curves(model.fit(*problem, epochs=2, verbose=0))
    assert [axes.get_ylabel() for axes in picture.axes] == ["loss", "accuracy"]
    assert len(picture.axes[0].lines[0].get_xdata()) == 2


def test_a_single_epoch_is_a_point_above_a_whole_number():
    picture = curves.learning_curves({"loss": [0.5]})
    pixels(picture)
    assert [tick for tick in picture.axes[0].get_xticks() if 0.5 <= tick <= 1.5] == [1]


def test_curves_say_what_they_are_and_count_epochs_from_1():
    alone = curves.learning_curves({"loss": [1.0] * 100})
    assert [t.get_text() for t in alone.axes[0].get_legend().get_texts()] == ["training"]
    assert alone.axes[0].get_xlim() == (0.5, 100.5)
    all_three = curves.learning_curves(HISTORY, test={"loss": 0.5, "accuracy": float("nan")})
    loss, accuracy = all_three.axes
    assert [t.get_text() for t in loss.get_legend().get_texts()] == ["training", "validation", "test"]
    assert set(loss.lines[-1].get_ydata()) == {0.5}
    assert [t.get_text() for t in accuracy.get_legend().get_texts()] == ["training"]
    pixels(all_three)


def test_an_empty_history_is_refused():
    for history in ({}, {"loss": []}, {"val_loss": [1.0]}):
        with pytest.raises(ArgumentError, match="no epoch"):
            curves.learning_curves(history)


# -- confusion matrix --------------------------------------------------------------------------------------------------


def test_confusions_are_counted_by_true_row_and_predicted_column():
    counts = plots.count_confusions([0, 0, 1, 2, 2, 2], [0, 1, 1, 0, 2, 2], 4)
    np.testing.assert_array_equal(counts, [[1, 1, 0, 0], [0, 1, 0, 0], [1, 0, 2, 0], [0, 0, 0, 0]])
    assert counts.dtype == np.int64


def test_one_hot_rows_and_probabilities_are_counted_as_their_largest_class():
    one_hot = np.eye(3)[[0, 1, 2]]
    counts = plots.count_confusions(one_hot, np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.1, 0.1, 0.8]]))
    np.testing.assert_array_equal(counts, [[1, 0, 0], [0, 0, 1], [0, 0, 1]])


def test_labels_that_cannot_be_counted_are_refused():
    with pytest.raises(ShapeError, match="y_true has 2 rows and y_pred 3"):
        plots.count_confusions([0, 1], [0, 1, 1])
    with pytest.raises(DataError, match="class 5 occurs, but there are 3 classes, 0 to 2"):
        plots.count_confusions([0, 5], [0, 1], 3)
    with pytest.raises(DataError, match=r"y_true of shape \(2,\) must be class numbers"):
        plots.count_confusions([0.5, 1.0], [0, 1])
    with pytest.raises(DataError, match=r"y_pred of shape \(0,\)"):
        plots.count_confusions([0], [])


def test_the_confusion_matrix_shows_every_count_and_every_name():
    picture = plots.confusion_matrix([0, 1, 1, 2], [0, 1, 2, 2], ["cat", "dog", "hen"], "on pets")
    shown = texts(picture)
    assert [t.get_text() for t in picture.axes[0].texts] == list("100011001")
    assert {"cat", "dog", "hen", "predicted", "true", "on pets: 3 of 4 right"} <= set(shown)
    pixels(picture)


def test_every_count_can_be_read_on_its_colour():
    true = np.repeat(np.arange(10), 20)
    predicted = np.where(np.arange(200) % 20 < 2 * true, true, np.arange(200) % 10)
    axes = plots.confusion_matrix(true, predicted).axes[0]

    def luminance(colour):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colours.to_rgb(colour)]
        return np.dot([0.2126, 0.7152, 0.0722], linear)

    for text in axes.texts:
        values = [image.get_array()[text.get_position()[::-1]] for image in axes.images]
        cells = [image.to_rgba(v)[:3] for image, v in zip(axes.images, values) if not np.ma.is_masked(v)]
        ground, ink = luminance(cells[0] if cells else "white"), luminance(text.get_color())
        if text.get_text() != "0":
            assert (max(ground, ink) + 0.05) / (min(ground, ink) + 0.05) > 3.5, (text.get_text(), cells)


def test_right_and_wrong_have_different_colours():
    image = pixels(plots.confusion_matrix([0, 0, 1, 1], [0, 1, 1, 1])).astype(int)
    blue = (image[..., 2] > image[..., 0] + 60).mean()
    orange = (image[..., 0] > image[..., 2] + 60).mean()
    assert blue > orange > 0.05


def test_many_classes_are_drawn_without_counts(rng):
    picture = plots.confusion_matrix(
        rng.integers(0, 90, 500), rng.integers(0, 90, 500), [f"class {i}" for i in range(90)]
    )
    assert len(texts(picture)) < 90
    pixels(picture)


# -- predictions -------------------------------------------------------------------------------------------------------


def test_the_sheet_puts_the_surest_mistakes_first_in_frames(rng):
    x = rng.uniform(0, 1, (60, 8, 8, 1)).astype(np.float32)
    y = np.zeros(60, np.int64)
    probabilities = np.tile([0.9, 0.1], (60, 1))
    probabilities[7], probabilities[9] = [0.4, 0.6], [0.01, 0.99]
    picture = plots.predictions(x, y, probabilities, None, "model on data", "a note")
    labels = [t.get_text() for t in picture.axes[0].texts]
    assert labels[:3] == ["0 → 1 (99 %)", "0 → 1 (60 %)", "0 (90 %)"]
    assert len(labels) == 50
    assert len(picture.axes[0].patches) == 2
    np.testing.assert_array_equal(picture.axes[0].images[0].get_array(), x[9, ..., 0])
    assert "model on data: 2 of 60 wrong (framed: true → predicted)\na note" in texts(picture)
    image = pixels(picture).astype(int)
    assert ((image[..., 0] > 180) & (image[..., 1] < 40)).sum() > 500


def test_where_most_is_wrong_the_sheet_still_shows_what_is_right(rng):
    probabilities = np.tile([0.2, 0.8], (60, 1))
    y = np.array([0] * 40 + [1] * 20)
    picture = plots.predictions(rng.uniform(0, 1, (60, 8, 8, 3)), y, probabilities, ["a cat", "a very long-haired dog"])
    labels = [t.get_text() for t in picture.axes[0].texts]
    assert labels[0] == "a cat\n→ a very long… (80 %)"
    assert sum("→" in label for label in labels) == 20
    assert "40 of 60 wrong (the 20 surest framed: true → predicted)" in texts(picture)
    pixels(picture)


def test_a_sheet_without_mistakes_frames_nothing(rng):
    picture = plots.predictions(rng.integers(0, 255, (3, 8, 8, 3)).astype(np.uint8), [0, 1, 1], np.eye(2)[[0, 1, 1]])
    assert "0 of 3 wrong" in texts(picture)
    assert len(picture.axes[0].patches) == 0
    assert [t.get_text() for t in picture.axes[0].texts] == ["0 (100 %)", "1 (100 %)", "1 (100 %)"]


def test_a_sheet_of_unequal_lengths_is_refused(rng):
    with pytest.raises(ShapeError, match="3 images, 2 labels, 3 predictions"):
        plots.predictions(np.zeros((3, 8, 8, 1)), [0, 1], np.eye(3))


# -- filters and feature maps ------------------------------------------------------------------------------------------


def test_each_filter_of_the_first_convolution_is_drawn(model):
    picture = plots.filters(model)
    weight = model.layers[0].get_weights()[0]
    tiles = picture.axes[0].images
    assert len(tiles) == 10
    np.testing.assert_array_equal(tiles[4].get_array(), weight[:, :, 0, 4])
    assert tiles[0].get_clim() == pytest.approx((-np.abs(weight).max(), np.abs(weight).max()))
    assert "filters of conv2d" in texts(picture)
    assert picture.axes[1].get_ylabel() == "weight"
    pixels(picture)


def test_the_bar_beside_filters_of_many_channels_says_what_was_averaged():
    model = gpucnn.Sequential([gpucnn.Input((8, 8, 2)), layers.Conv2D(4, 3)])
    assert plots.filters(model).axes[1].get_ylabel() == "weight, mean over channels"


def test_filters_of_colour_images_are_drawn_in_colour():
    model = gpucnn.Sequential([gpucnn.Input((8, 8, 3)), layers.Conv2D(4, 3)])
    tile = plots.filters(model).axes[0].images[0].get_array()
    assert tile.shape == (3, 3, 3)
    assert 0 <= tile.min() < 0.5 < tile.max() <= 1


def test_filters_that_are_all_zero_are_drawn(model):
    model.layers[0].set_weights([np.zeros((3, 3, 1, 10)), np.zeros(10)])
    pixels(plots.filters(model))


def test_feature_maps_are_what_the_layers_return(model, rng):
    image = rng.uniform(0, 1, (12, 12, 1)).astype(np.float32)
    picture = plots.feature_maps(model, image)
    shown, first, second = picture.axes
    np.testing.assert_array_equal(shown.images[0].get_array(), image[..., 0])
    np.testing.assert_array_equal(first.images[3].get_array(), model.layers[0](image[None])[0, :, :, 3])
    assert len(first.images) == 10
    assert len(second.images) == 16
    assert "conv2d_1: 16 of 20 maps, 5 × 5" in texts(picture)
    pixels(picture)


def test_feature_maps_of_a_block_are_those_inside_it_and_its_own(rng):
    block = layers.Residual([layers.Conv2D(3, 3, padding="same"), layers.ReLU(), layers.Conv2D(3, 3, padding="same")])
    model = gpucnn.Sequential([gpucnn.Input((8, 8, 3)), block, layers.Flatten(), layers.Dense(2)])
    picture = plots.feature_maps(model, rng.uniform(0, 1, (8, 8, 3)))
    titles = [axes.get_title().partition(":")[0] for axes in picture.axes[1:]]
    assert titles == ["residual/conv2d", "residual/conv2d_1", "residual"]


def test_feature_maps_name_the_class_and_what_the_model_predicts(model, rng):
    image = rng.uniform(0, 1, (12, 12, 1)).astype(np.float32)
    probabilities = model.predict(image[None], verbose=0)[0]
    names = ["cat", "dog", "hen"]
    picture = plots.feature_maps(model, image, classes=names, y_true=1)
    said = f"true: dog\npredicted: {names[probabilities.argmax()]} ({100 * probabilities.max():.0f} %)"
    assert picture.axes[0].get_title() == said
    assert plots.feature_maps(model, image).axes[0].get_title().startswith("image\npredicted: ")
    pixels(picture)


def test_a_model_without_convolutions_has_no_filters_to_draw():
    model = gpucnn.Sequential([gpucnn.Input((4, 4, 1)), layers.Flatten(), layers.Dense(2)])
    with pytest.raises(ArgumentError, match="no two-dimensional convolution"):
        plots.filters(model)
    with pytest.raises(ArgumentError, match="no two-dimensional convolution"):
        plots.feature_maps(model, np.zeros((4, 4, 1)))


# -- pictures ----------------------------------------------------------------------------------------------------------


def test_a_picture_is_saved_whole_and_shown_by_notebooks(tmp_path):
    picture = curves.learning_curves(HISTORY)
    path = picture.save(tmp_path / "curves.png")
    with Image.open(path) as saved:
        assert saved.size == tuple((picture.get_size_inches() * picture.dpi).astype(int))
    assert picture._repr_png_().startswith(b"\x89PNG")
    assert [file.name for file in tmp_path.iterdir()] == ["curves.png"]


def test_a_picture_that_cannot_be_written_is_an_error_with_its_path(tmp_path):
    with pytest.raises(FileError, match=r"curves\.png"):
        curves.learning_curves(HISTORY).save(tmp_path / "missing" / "curves.png")


@pytest.fixture
def few_fonts(monkeypatch):
    """A machine without fonts for Chinese."""
    bundled = [entry for entry in curves.font_manager.fontManager.ttflist if "matplotlib" in entry.fname]
    monkeypatch.setattr(curves.font_manager.fontManager, "ttflist", bundled)
    monkeypatch.setattr(curves.font_manager, "findSystemFonts", list)
    monkeypatch.setattr(curves, "_FONTS", ("DejaVu Sans",))


def test_numbers_and_a_key_stand_for_names_that_no_font_can_draw(few_fonts, tmp_path):
    with pytest.warns(UserWarning, match=r"no installed font can draw the class names \(猫, 狗\)"):
        picture = plots.confusion_matrix([0, 1], [0, 1], ["猫", "狗"], "在 MNIST 上")
    assert "? MNIST ?: 2 of 2 right" in texts(picture)
    assert {"0", "1"} <= {label.get_text() for label in picture.axes[0].get_xticklabels()}
    picture.save(tmp_path / "confusions.png")
    assert (tmp_path / "confusions.txt").read_text(encoding="utf-8") == "0 猫\n1 狗\n"
    sheet = plots.predictions(np.zeros((2, 4, 4, 1)), [0, 1], np.eye(2), ["猫", "狗"])  # without a second warning
    sheet.save(tmp_path / "sheet.png")
    assert (tmp_path / "sheet.txt").exists()


def test_names_that_can_be_drawn_need_no_key(tmp_path):
    plots.confusion_matrix([0, 1], [0, 1], ["Käse", "Öl"]).save(tmp_path / "a.png")
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_dollar_signs_in_names_are_not_formulas():
    names = ["$x", "a$\\bad{$"]
    pixels(plots.confusion_matrix([0, 1], [1, 1], names, "on $data$"))
    pixels(plots.predictions(np.zeros((2, 4, 4, 1)), [0, 1], np.eye(2), names))


def test_the_font_that_has_all_characters_is_taken(monkeypatch):
    monkeypatch.setattr(curves, "_FONTS", ("No Such Font", "DejaVu Serif"))
    assert curves.font_for("Löwe") == "DejaVu Serif"


def test_any_installed_font_that_has_the_characters_is_found(few_fonts, monkeypatch):
    monkeypatch.setattr(curves, "_FONTS", ("No Such Font",))
    assert curves.font_for("Löwe") is not None
    assert curves.font_for("猫") is None


def test_a_font_that_was_installed_after_matplotlib_made_its_list_is_found(few_fonts, monkeypatch, tmp_path):
    entries = curves.font_manager.fontManager.ttflist
    installed = next(
        entry.fname for entry in entries if entry.name == "DejaVu Sans" and entry.fname.endswith("Sans.ttf")
    )
    monkeypatch.setattr(curves.font_manager.fontManager, "ttflist", [e for e in entries if e.name == "cmex10"])
    assert curves.font_for("Жук") is None
    damaged = tmp_path / "damaged.ttf"
    damaged.write_bytes(b"nothing")
    monkeypatch.setattr(curves.font_manager, "findSystemFonts", lambda: [str(damaged), installed])
    assert curves.font_for("Жук") == "DejaVu Sans"
    assert curves.font_for("猫") is None


def test_nothing_is_left_behind_in_pyplot_or_matplotlibs_settings():
    program = (
        "import sys; from matplotlib import rcParams as rc; raw = lambda: {k: dict.__getitem__(rc, k) for k in rc};"
        "before = raw(); from gpucnn.callbacks import curves; curves.learning_curves({'loss': [1.0, 0.5]}).png();"
        "assert raw() == before; assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=600)


def test_pictures_are_reached_from_the_top_without_loading_matplotlib_before():
    code = (
        "import sys, gpucnn; print('matplotlib' in sys.modules); gpucnn.plots.learning_curves; from gpucnn import plots"
    )
    code += "; print('matplotlib' in sys.modules, plots is gpucnn.plots, plots.confusion_matrix.__module__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "True", "gpucnn.plots"]


def test_windows_are_drawn_where_the_layers_take_them():
    picture = plots.windows(6)
    titles = [axes.get_title() for axes in picture.axes]
    assert titles[:5] == ["3 × 3", 'padding="same"', "strides=2", "dilation_rate=2", "pooling, 2 × 2"]
    made = [
        *(layers.Conv2D(1, 3), layers.Conv2D(1, 3, padding="same"), layers.Conv2D(1, 3, strides=2)),
        *(layers.Conv2D(1, 3, dilation_rate=2), layers.MaxPooling2D(2)),
    ]
    for layer, formula in zip(made, titles[5:], strict=True):
        assert formula.endswith(f" + 1 = {layer.compute_output_shape((None, 6, 6, 1))[1]}"), formula
    upper, lower = picture.axes[1], picture.axes[6]
    assert (len(upper.patches), len(upper.texts), len(lower.patches)) == (64 + 18, 64 - 36, 36 + 2)
    pixels(picture)
    with pytest.raises(ArgumentError, match=r"size=5: two windows of dilation_rate=2 do not fit; give 6 or more"):
        plots.windows(5)
