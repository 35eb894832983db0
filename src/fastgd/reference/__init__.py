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
`LOSSES`                classification: `log_loss`, `focal`, `hinge`, `squared_hinge`, `perceptron`,
                        `modified_huber`
                        regression: `squared_error`, `huber`, `epsilon_insensitive`,
                        `squared_epsilon_insensitive`, `pinball`, `expectile`
                        with logarithmic link: `poisson`, `gamma`, `tweedie`
`RULES`                 along the gradient or its sign: `sgd`, `asgd`, `signum`, `lion`, `rprop`
                        a rate for each parameter: `adagrad`, `adadelta`, `rmsprop`, `ftrl`
                        Adam and its kin: `adam`, `adamw`, `nadam`, `radam`, `adamax`, `adabelief`,
                        `yogi`, `adan`, `sparse_adam`
                        a layer as a whole: `lars`, `lamb`, `adafactor`, `muon` (`newton_schulz`)
                        no schedule, no learning rate: `schedule_free_sgd`, `schedule_free_adamw`
                        (`schedule_free_eval`), `prodigy`
L-BFGS                  `lbfgs`: `lbfgs_direction`, `strong_wolfe`, `cubic_minimum`
`SCHEDULES`             `constant`, `invscaling`, `optimal`
transforms              before the rule `centralize`, `adaptive_clip`, after it `lookahead`
projections             `box`, `l1_ball`, `l2_ball`, `simplex`
sampler                 `xorshift32`, `shuffle`, `rows`
`formats`               numbers in 16 and 8 bits, and how they are rounded: a module of its own
`quantization`          numbers and their codes, integer products: another
linear model            `linear_prediction`, `linear_gradient`, `linear_step`, `train_linear`;
                        of many classes together `multinomial`, `multinomial_gradient`;
                        groups of features `shrink_groups`, `group_norms`;
                        row by row `linear_rows`, `aggressive_step`, `take_l1`, `cut_off`
`ONLINE_RULES`          `vw` (`invariant_step`)
hashed features         `hashed_row`, `feature_of_pair`
`ACTIVATIONS`           `identity`, `relu`, `leaky_relu`, `elu`, `gelu`, `silu`, `tanh`, `logistic`,
                        `softplus`
`network`               layers, backpropagation, training: a module of its own
======================  ==========================================================================

References
----------
Ba, Kiros, Hinton (2016), Layer normalization, arXiv:1607.06450.
Bernstein, Wang, Azizzadenesheli, Anandkumar (2018), signSGD: compressed optimisation for non-convex
problems, ICML.
Bishop (2006), Pattern recognition and machine learning.
Bottou (2010), Large-scale machine learning with stochastic gradient descent, COMPSTAT.
Bottou (2012), Stochastic gradient descent tricks, Neural Networks: Tricks of the Trade.
Brock, De, Smith, Simonyan (2021), High-performance large-scale image recognition without
normalization, ICML.
Chen, Liang, Huang, Real, Wang, Liu, Pham, Dong, Luong, Hsieh, Lu, Le (2023), Symbolic discovery of
optimization algorithms, NeurIPS.
Clevert, Unterthiner, Hochreiter (2016), Fast and accurate deep network learning by exponential
linear units (ELUs), ICLR.
Crammer, Dekel, Keshet, Shalev-Shwartz, Singer (2006), Online passive-aggressive algorithms, Journal
of Machine Learning Research 7.
Defazio, Yang, Mehta, Mishchenko, Khaled, Cutkosky (2024), The road less scheduled, NeurIPS.
Dozat (2016), Incorporating Nesterov momentum into Adam, ICLR workshop.
Duchi, Hazan, Singer (2011), Adaptive subgradient methods for online learning and stochastic
optimization, Journal of Machine Learning Research 12.
Duchi, Singer (2009), Efficient online and batch learning using forward backward splitting, Journal
of Machine Learning Research 10.
Duchi, Shalev-Shwartz, Singer, Chandra (2008), Efficient projections onto the l1-ball for learning
in high dimensions, ICML.
Dugas, Bengio, Bélisle, Nadeau, Garcia (2001), Incorporating second-order functional knowledge for
better option pricing, NIPS.
Durstenfeld (1964), Algorithm 235: random permutation, Communications of the ACM 7(7).
Elfwing, Uchibe, Doya (2018), Sigmoid-weighted linear units for neural network function
approximation in reinforcement learning, Neural Networks 107.
Graves (2013), Generating sequences with recurrent neural networks, arXiv:1308.0850.
Hastie, Tibshirani, Friedman (2009), The elements of statistical learning, 2nd edition.
He, Zhang, Ren, Sun (2016), Deep residual learning for image recognition, CVPR.
Hendrycks, Gimpel (2016), Gaussian error linear units (GELUs), arXiv:1606.08415.
Ho, Lin (2012), Large-scale linear support vector regression, Journal of Machine Learning
Research 13.
Hsieh, Chang, Lin, Keerthi, Sundararajan (2008), A dual coordinate descent method for large-scale
linear SVM, ICML.
Huber (1964), Robust estimation of a location parameter, Ann. Math. Statist. 35(1).
Igel, Hüsken (2000), Improving the Rprop learning algorithm, Neural Computation.
Ioffe, Szegedy (2015), Batch normalization: accelerating deep network training by reducing internal
covariate shift, ICML.
Jordan, Jin, Boza, You, Cesista, Newhouse, Bernstein (2024), Muon: an optimizer for hidden layers in
neural networks, kellerjordan.github.io/posts/muon.
Jorgensen (1987), Exponential dispersion models, Journal of the Royal Statistical Society B 49.
Karampatziakis, Langford (2011), Online importance weight aware updates, UAI.
Kingma, Ba (2015), Adam: a method for stochastic optimization, ICLR.
Koenker, Bassett (1978), Regression quantiles, Econometrica 46(1).
Kulis, Bartlett (2010), Implicit online learning, ICML.
LeCun, Bottou, Orr, Müller (1998), Efficient backprop, Neural networks: tricks of the trade.
Lin, Goyal, Girshick, He, Dollar (2017), Focal loss for dense object detection, ICCV.
Liu, Jiang, He, Chen, Liu, Gao, Han (2020), On the variance of the adaptive learning rate and
beyond, ICLR.
Liu, Su, and others (2025), Muon is scalable for LLM training, arXiv:2502.16982.
Loshchilov, Hutter (2019), Decoupled weight decay regularization, ICLR.
Maas, Hannun, Ng (2013), Rectifier nonlinearities improve neural network acoustic models, ICML
workshop on deep learning for audio, speech and language processing.
Mächler (2012), Accurately computing log(1 - exp(-|a|)), vignette of the R package Rmpfr.
Marsaglia (2003), Xorshift RNGs, Journal of Statistical Software 8(14).
McMahan, Holt, Sculley, Young, and others (2013), Ad click prediction: a view from the trenches,
KDD.
McMahan, Streeter (2010), Adaptive bound optimization for online convex optimization, COLT.
Mishchenko, Defazio (2024), Prodigy: an expeditiously adaptive parameter-free learner, ICML.
Nair, Hinton (2010), Rectified linear units improve restricted Boltzmann machines, ICML.
Nelder, Wedderburn (1972), Generalized linear models, Journal of the Royal Statistical Society A
135(3).
Newey, Powell (1987), Asymmetric least squares estimation and testing, Econometrica 55(4).
Nocedal, Wright (2006), Numerical optimization, 2nd edition.
Polyak (1964), Some methods of speeding up the convergence of iteration methods, USSR Comput. Math.
Math. Phys. 4(5).
Polyak, Juditsky (1992), Acceleration of stochastic approximation by averaging, SIAM J. Control
Optim. 30(4).
Reddi, Kale, Kumar (2018), On the convergence of Adam and beyond, ICLR.
Riedmiller, Braun (1993), A direct adaptive method for faster backpropagation learning: the RPROP
algorithm, IEEE International Conference on Neural Networks.
Robbins, Monro (1951), A stochastic approximation method, Ann. Math. Statist. 22(3).
Rosenblatt (1958), The perceptron: a probabilistic model for information storage and organization
in the brain, Psychological Review 65(6).
Ross, Mineiro, Langford (2013), Normalized online learning, UAI.
Rumelhart, Hinton, Williams (1986), Learning representations by back-propagating errors, Nature 323.
Shalev-Shwartz, Singer, Srebro (2007), Pegasos: primal estimated sub-gradient solver for SVM, ICML.
Shazeer, Stern (2018), Adafactor: adaptive learning rates with sublinear memory cost, ICML.
Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov (2014), Dropout: a simple way to prevent
neural networks from overfitting, Journal of Machine Learning Research 15.
Steele, Lea, Flood (2014), Fast splittable pseudorandom number generators, OOPSLA.
Sutskever, Martens, Dahl, Hinton (2013), On the importance of initialization and momentum in deep
learning, ICML.
Szegedy, Vanhoucke, Ioffe, Shlens, Wojna (2016), Rethinking the Inception architecture for computer
vision, CVPR.
Tieleman, Hinton (2012), Lecture 6.5: RMSProp, Coursera: Neural networks for machine learning.
Vapnik (1995), The nature of statistical learning theory, Springer.
Tsuruoka, Tsujii, Ananiadou (2009), Stochastic gradient descent training for L1-regularized
log-linear models with cumulative penalty, ACL.
Weinberger, Dasgupta, Langford, Smola, Attenberg (2009), Feature hashing for large scale multitask
learning, ICML.
Xie, Zhou, Li, Lin, Yan (2022), Adan: adaptive Nesterov momentum algorithm for faster optimizing
deep models, arXiv:2208.06677.
Xu (2011), Towards optimal one pass large scale learning with averaged stochastic gradient descent,
arXiv:1107.2490.
Xu, Qiu, Yuan, Jiang, Renggli, Gan, Kara, Li, Liu, Wu, Ye, Zhang (2022), In-database machine
learning with CorgiPile: stochastic gradient descent without full data shuffle, SIGMOD.
Yong, Huang, Hua, Zhang (2020), Gradient centralization: a new optimization technique for deep
neural networks, ECCV.
You, Gitman, Ginsburg (2017), Large batch training of convolutional networks, arXiv:1708.03888.
You, Li, Reddi, Hseu, Kumar, Bhojanapalli, Song, Demmel, Keutzer, Hsieh (2020), Large batch
optimization for deep learning: training BERT in 76 minutes, ICLR.
Yuan, Lin (2006), Model selection and estimation in regression with grouped variables, Journal of
the Royal Statistical Society B 68(1).
Zaheer, Reddi, Sachan, Kale, Kumar (2018), Adaptive methods for nonconvex optimization, NeurIPS.
Zeiler (2012), ADADELTA: an adaptive learning rate method, arXiv:1212.5701.
Zhang (2004), Solving large scale linear prediction problems using stochastic gradient descent
algorithms, ICML.
Zhang, Lucas, Hinton, Ba (2019), Lookahead optimizer: k steps forward, 1 step back, NeurIPS.
Zhuang, Tang, Ding, Tatikonda, Dvornek, Papademetris, Duncan (2020), AdaBelief optimizer: adapting
stepsizes by the belief in observed gradients, NeurIPS.
"""

from collections.abc import Callable

from . import network
from .activations import (
    ACTIVATIONS,
    elu,
    gelu,
    identity,
    leaky_relu,
    logistic,
    relu,
    silu,
    softplus,
    tanh,
)
from .hashing import feature_of_pair, hashed_row
from .linear_model import (
    cut_off,
    group_norms,
    linear_gradient,
    linear_prediction,
    linear_step,
    multinomial_gradient,
    shrink_groups,
    train_linear,
)
from .linear_rows import aggressive_step, linear_rows, take_l1
from .losses import (
    LOSSES,
    epsilon_insensitive,
    expectile,
    focal,
    gamma,
    hinge,
    huber,
    log_loss,
    modified_huber,
    multinomial,
    perceptron,
    pinball,
    poisson,
    squared_epsilon_insensitive,
    squared_error,
    squared_hinge,
    tweedie,
)
from .online import ONLINE_RULES, invariant_step, vw
from .quasi_newton import cubic_minimum, lbfgs, lbfgs_direction, strong_wolfe
from .rules import *  # noqa: F403 (all of them, by their names)
from .rules import __all__ as _rules
from .sampler import BLOCK, rows, shuffle, xorshift32
from .schedules import SCHEDULES, constant, invscaling, optimal
from .transforms import adaptive_clip, box, centralize, l1_ball, l2_ball, lookahead, simplex

__all__ = [
    "tanh",
    "softplus",
    "silu",
    "relu",
    "network",
    "logistic",
    "leaky_relu",
    "identity",
    "gelu",
    "elu",
    "ACTIVATIONS",
    "BLOCK",
    "LOSSES",
    "ONLINE_RULES",
    "SCHEDULES",
    "adaptive_clip",
    "aggressive_step",
    "box",
    "centralize",
    "constant",
    "cubic_minimum",
    "cut_off",
    "epsilon_insensitive",
    "expectile",
    "feature_of_pair",
    "focal",
    "gamma",
    "gradient_descent",
    "group_norms",
    "hashed_row",
    "hinge",
    "huber",
    "invariant_step",
    "invscaling",
    "l1_ball",
    "l2_ball",
    "lbfgs",
    "lbfgs_direction",
    "linear_gradient",
    "linear_prediction",
    "linear_rows",
    "linear_step",
    "log_loss",
    "lookahead",
    "modified_huber",
    "multinomial",
    "multinomial_gradient",
    "optimal",
    "perceptron",
    "pinball",
    "poisson",
    "rows",
    "shrink_groups",
    "shuffle",
    "simplex",
    "squared_epsilon_insensitive",
    "squared_error",
    "squared_hinge",
    "strong_wolfe",
    "take_l1",
    "train_linear",
    "tweedie",
    "vw",
    "xorshift32",
    *_rules,
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
