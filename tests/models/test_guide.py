"""What docs/models.md says of the models is so."""

import ast
import inspect
import re
from pathlib import Path

import pytest

from fastrnn.models import CNNLSTMClassifier, FusionClassifier, StripClassifier, StripCNN

from .random_models import CLASSES

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "models.md"
WITH_LSTM = {StripClassifier, CNNLSTMClassifier, FusionClassifier}
WITH_CONVOLUTIONS = {CNNLSTMClassifier, StripCNN, FusionClassifier}
WHICH = {
    "all": set(CLASSES),
    "with an LSTM": WITH_LSTM,
    "with convolutions": WITH_CONVOLUTIONS,
    "with both": WITH_LSTM & WITH_CONVOLUTIONS,
    **{f"`{model_class.__name__}`": {model_class} for model_class in CLASSES},
}


def settings_in_the_guide() -> list[tuple[str, object, str]]:
    """Name, default, and which models have it, of each setting in the table."""
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| (.*?) \| (.*?) \|", GUIDE.read_text(), re.M)
    found = []
    for names, defaults, models in rows:
        values = ast.literal_eval(f"({defaults.replace('`', '')},)")
        for name, value in zip(re.findall(r"\w+", names), values, strict=True):
            found.append((name, value, models))
    return found


@pytest.mark.parametrize("model_class", CLASSES)
def test_its_table_has_the_settings_of_every_model_and_their_defaults(model_class):
    rows = [row for row in settings_in_the_guide() if model_class in WHICH[row[2]]]
    listed = {name: default for name, default, _ in rows}
    assert len(listed) == len(rows), "a setting is in two rows"
    own = [*inspect.signature(model_class.config_class).parameters.values()][3:]
    assert listed == {parameter.name: parameter.default for parameter in own}


def test_its_code_runs(capsys):
    blocks = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(), re.M | re.S)
    assert len(blocks) == 5
    exec("\n".join(blocks), {})
    assert int(capsys.readouterr().out) > 0
