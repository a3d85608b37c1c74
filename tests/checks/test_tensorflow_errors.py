"""TensorFlow's messages: the line with the reason."""

from resnet_keras.checks.tensorflow_errors import reason_of


def test_the_reason_is_the_line_that_names_no_place() -> None:
    message = (
        "Graph execution error:\n\nDetected at node ReadFile defined at (most recent call last):\n<stack traces "
        'unavailable>\nFile "x.py", line 3\n{{function_node __wrapped__IteratorGetNext}} a.png; No such file\n'
        "\t [[{{node ReadFile}}]]\nHint: more"
    )
    assert reason_of(message) == "a.png; No such file"
    assert reason_of("Error in user-defined function passed to Map: [Op:It]: Invalid PNG data") == "Invalid PNG data"
    assert reason_of("Hint: " + "x" * 300) == "Hint: " + "x" * 194
