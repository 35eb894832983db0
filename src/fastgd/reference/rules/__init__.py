"""Update rules: change a parameter and what is remembered of it in place, given the gradient.

Every rule is called ``rule(param, grad, state, t, *, ...)``, on lists of floats. `state` starts as
an empty dict; the rule fills it on first use, under the names that torch.optim has where it has the
rule. What it remembers is as long as the parameter, or else said so; a single number is a list of
length one. `t` counts the steps from 1 on.
"""

from collections.abc import Callable

from ._common import State, Vector
from .adaptive import adadelta, adagrad, ftrl, rmsprop
from .layerwise import adafactor, lamb, lars
from .matrix import muon, musgd, newton_schulz
from .moments import adabelief, adam, adamax, adamw, adan, nadam, radam, sparse_adam, yogi
from .momentum import asgd, lion, rprop, sgd, signum
from .tuning_free import prodigy, schedule_free_adamw, schedule_free_eval, schedule_free_sgd

__all__ = [
    "RULES",
    "Rule",
    "State",
    "Vector",
    "adabelief",
    "adadelta",
    "adafactor",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "adan",
    "asgd",
    "ftrl",
    "lamb",
    "lars",
    "lion",
    "muon",
    "musgd",
    "nadam",
    "newton_schulz",
    "prodigy",
    "radam",
    "rmsprop",
    "rprop",
    "schedule_free_adamw",
    "schedule_free_eval",
    "schedule_free_sgd",
    "sgd",
    "signum",
    "sparse_adam",
    "yogi",
]

Rule = Callable[..., None]

RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        sgd,
        asgd,
        signum,
        lion,
        rprop,
        adagrad,
        adadelta,
        rmsprop,
        ftrl,
        adam,
        adamw,
        nadam,
        radam,
        adamax,
        adabelief,
        yogi,
        adan,
        sparse_adam,
        lars,
        lamb,
        adafactor,
        muon,
        musgd,
        schedule_free_sgd,
        schedule_free_adamw,
        prodigy,
    )
}
"""The update rules by name."""
