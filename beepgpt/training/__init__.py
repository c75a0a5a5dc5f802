"""Examples to training sets, models and metrics: no engine, no network, no console, no settings. Clients and progress are passed in."""

import os

# The threads of lightgbm and scikit-learn read it when they are first imported, and all that imports them here comes by this file. On a
# busy machine, threads that wait busily wait for each other.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
