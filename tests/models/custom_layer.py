"""The layer `Scale` as the docstring of gpucnn/layers/layer.py shows it to users."""

import re
import textwrap

import gpucnn
from gpucnn.layers import layer

_names = {"gpucnn": gpucnn, "__name__": __name__}
exec(textwrap.dedent(re.search(r"^    @gpucnn\.register\n.*", layer.__doc__, re.MULTILINE | re.DOTALL)[0]), _names)
Scale = _names["Scale"]
