"""The executable specification of fastgd: every formula once, in plain Python.

Read it like a textbook, from the top: gradient descent in three lines, then its anatomy,
**loss -> gradient -> update rule**, repeated over **batches** drawn by a **sampler** with a
**schedule** for the learning rate. The tests hold the C kernels to what is computed here, and the
benchmarks measure how much faster they are. Vectors are lists of floats; nothing but `math` is
used to compute. Nothing is checked either: bad input is refused in words by the public classes
(`fastgd.optim`, `fastgd.linear_model`), not here.

The parts, each a plain function and, by name, a row of a table:

======================  ==========================================================================
`gradient_descent`      the idea itself
`LOSSES`                `squared_error`, `log_loss`, `hinge`, `huber`
`RULES`                 along the gradient or its sign: `sgd`, `asgd`, `signum`, `lion`, `rprop`
                        a rate for each parameter: `adagrad`, `adadelta`, `rmsprop`, `ftrl`
                        Adam and its kin: `adam`, `adamw`, `nadam`, `radam`, `adamax`, `adabelief`,
                        `yogi`, `adan`, `sparse_adam`
`SCHEDULES`             `constant`, `invscaling`, `optimal`
sampler                 `xorshift32`, `shuffle`, `rows`
linear model            `linear_prediction`, `linear_gradient`, `linear_step`, `train_linear`
======================  ==========================================================================

References
----------
Bottou (2010), Large-scale machine learning with stochastic gradient descent, COMPSTAT.
Bottou (2012), Stochastic gradient descent tricks, Neural Networks: Tricks of the Trade.
Durstenfeld (1964), Algorithm 235: random permutation, Communications of the ACM 7(7).
Hastie, Tibshirani, Friedman (2009), The elements of statistical learning, 2nd edition.
Huber (1964), Robust estimation of a location parameter, Ann. Math. Statist. 35(1).
Kingma, Ba (2015), Adam: a method for stochastic optimization, ICLR.
Loshchilov, Hutter (2019), Decoupled weight decay regularization, ICLR.
Mächler (2012), Accurately computing log(1 - exp(-|a|)), vignette of the R package Rmpfr.
Marsaglia (2003), Xorshift RNGs, Journal of Statistical Software 8(14).
Polyak (1964), Some methods of speeding up the convergence of iteration methods, USSR Comput.
Math. Math. Phys. 4(5).
Polyak, Juditsky (1992), Acceleration of stochastic approximation by averaging, SIAM J. Control
Optim. 30(4).
Robbins, Monro (1951), A stochastic approximation method, Ann. Math. Statist. 22(3).
Shalev-Shwartz, Singer, Srebro (2007), Pegasos: primal estimated sub-gradient solver for SVM, ICML.
Sutskever, Martens, Dahl, Hinton (2013), On the importance of initialization and momentum in deep
learning, ICML.
Xu, Qiu, Yuan, Jiang, Renggli, Gan, Kara, Li, Liu, Wu, Ye, Zhang (2022), In-database machine
learning with CorgiPile: stochastic gradient descent without full data shuffle, SIGMOD.
"""

from collections.abc import Callable

from .linear_model import linear_gradient, linear_prediction, linear_step, train_linear
from .losses import LOSSES, hinge, huber, log_loss, squared_error
from .rules import (
    RULES,
    adabelief,
    adadelta,
    adagrad,
    adam,
    adamax,
    adamw,
    adan,
    asgd,
    ftrl,
    lion,
    nadam,
    radam,
    rmsprop,
    rprop,
    sgd,
    signum,
    sparse_adam,
    yogi,
)
from .sampler import BLOCK, rows, shuffle, xorshift32
from .schedules import SCHEDULES, constant, invscaling, optimal

__all__ = [
    "BLOCK",
    "LOSSES",
    "RULES",
    "SCHEDULES",
    "adabelief",
    "adadelta",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "adan",
    "asgd",
    "constant",
    "ftrl",
    "gradient_descent",
    "hinge",
    "huber",
    "invscaling",
    "linear_gradient",
    "linear_prediction",
    "linear_step",
    "lion",
    "log_loss",
    "nadam",
    "optimal",
    "radam",
    "rmsprop",
    "rows",
    "rprop",
    "sgd",
    "shuffle",
    "signum",
    "sparse_adam",
    "squared_error",
    "train_linear",
    "xorshift32",
    "yogi",
]


def gradient_descent(
    gradient: Callable[[float], float], w: float, lr: float = 0.1, steps: int = 1
) -> float:
    """Minimise a function of one number by walking against its gradient.

    ``w <- w - lr * gradient(w)``, `steps` times (Cauchy, 1847).

    Parameters
    ----------
    gradient : callable
        The derivative of the function to minimise.
    w : float
        Where to start.
    lr : float, default=0.1
        The learning rate: how far a step goes for each unit of slope.
    steps : int, default=1
        How many steps to take.

    Returns
    -------
    float
        Where the walk ends.

    Examples
    --------
    The function (w - 2)^2 is least at 2. Its gradient at 5 is 6, so a step of a tenth of that leads
    to 4.4, and enough of them to the minimum:

    >>> def gradient(w):
    ...     return 2.0 * (w - 2.0)
    >>> gradient(5.0)
    6.0
    >>> gradient_descent(gradient, 5.0, lr=0.1)
    4.4
    >>> round(gradient_descent(gradient, 5.0, lr=0.1, steps=100), 6)
    2.0
    """
    for _ in range(steps):
        w -= lr * gradient(w)
    return w
