"""How a notebook shows a history."""

from gpucnn.callbacks import History


def test_a_notebook_shows_a_table_of_the_epochs_with_names_as_text():
    history = History()
    for epoch in range(3, 30):
        history.on_epoch_end(epoch, {"loss": 1 / (1 + epoch), "<b>": epoch})
    html = history._repr_html_()
    assert "<th>&lt;b&gt;</th>" in html and "<b>" not in html
    assert "<td>4</td><td>0.25</td><td>3</td>" in html and "<td>30</td><td>0.03333</td><td>29</td>" in html
    assert html.count("<tr>") == 1 + 10 + 1 + 10 and "<tr><td>20</td>" not in html


def test_an_empty_history_is_an_empty_table():
    assert History()._repr_html_() == "<table><tr><th>epoch</th></tr></table>"
