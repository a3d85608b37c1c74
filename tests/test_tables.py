"""Tables in Markdown."""

import pytest

from resnet_keras.tables import markdown_table


def test_columns_have_one_width_and_numbers_end_on_the_right() -> None:
    rows = [("resnet20", 269_722, "a | b"), ("r1", 7, "two\nlines")]
    assert markdown_table(("network", "size", "note"), rows, text=("note",)).splitlines() == [
        "| network  |   size | note      |",
        "| -------- | -----: | --------- |",
        "| resnet20 | 269722 | a \\| b    |",
        "| r1       |      7 | two lines |",
    ]


def test_a_table_may_have_no_rows() -> None:
    assert markdown_table(("a", "b"), []) == "| a   |   b |\n| --- | --: |"


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Expected a row of 2 cells\. Received: \['1'\]"):
        markdown_table(("a", "b"), [("1",)])
