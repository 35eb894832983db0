"""Optimizers over lists of NumPy arrays, with torch.optim's names, defaults and numerics.

A class a rule: signature, hyper-parameters, their defaults and domains, and the states come from
the rows of ``csrc/optim_rules.h``. What the classes have in common is in ``_optimizer``. `LBFGS`,
which asks for the loss at points of its own choice, stands apart.

Beside torch's arguments every class takes, keyword-only, `max_norm`, `centralize`, `agc`,
`clip_value`, `nonfinite`, `lookahead`, `projection`, `ema_decay` and `report_norms`: norm, guard,
clipping, update and moving average are one call and two passes over memory, one more for
`centralize` and `agc`.
"""

from ._core import NonFiniteError
from ._hypers import Array, defaults, hyper_values, make_states
from ._optim_lbfgs import LBFGS
from ._optimizer import CLASSES, Optimizer, ParamGroup
from ._own_rules import register
from ._rows import RowGradient
from ._step_options import StepReport
from ._swa import swa

__all__ = [
    "ASGD",
    "CLASSES",
    "FTRL",
    "LAMB",
    "LARS",
    "LBFGS",
    "SGD",
    "AdaBelief",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Adan",
    "Lion",
    "MuSGD",
    "Muon",
    "NAdam",
    "NonFiniteError",
    "Optimizer",
    "ParamGroup",
    "Prodigy",
    "RAdam",
    "RMSprop",
    "RowGradient",
    "Rprop",
    "ScheduleFreeAdamW",
    "ScheduleFreeSGD",
    "Signum",
    "SparseAdam",
    "StepReport",
    "Yogi",
    "defaults",
    "hyper_values",
    "make_states",
    "register",
    "swa",
]


class SGD(Optimizer, rule="sgd"):
    """Stochastic gradient descent, with momentum if asked; ``torch.optim.SGD``.

    Notes
    -----
    ::

        g += weight_decay * p
        b = momentum * b + (1 - dampening) * g  (at first b = g)
        p -= lr * b, with nesterov lr * (g + momentum * b)

    References
    ----------
    Sutskever, Martens, Dahl, Hinton, "On the importance of initialization and momentum in deep
    learning", ICML 2013.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd.optim import SGD
    >>> w = np.array([5.0])
    >>> opt = SGD(w, lr=0.1)
    >>> opt.step(2 * (w - 2))
    >>> w
    array([4.4])
    """


class Adam(Optimizer, rule="adam"):
    """Adam, AMSGrad and, with `decoupled_weight_decay`, AdamW; ``torch.optim.Adam``.

    Notes
    -----
    ::

        g += weight_decay * p
        m = beta1 * m + (1 - beta1) * g, v = beta2 * v + (1 - beta2) * g**2
        p -= lr * m^ / (sqrt(v^) + eps), where m^ = m / (1 - beta1**t), v^ = v / (1 - beta2**t)

    References
    ----------
    Kingma & Ba, "Adam: a method for stochastic optimization", ICLR 2015.
    Reddi, Kale, Kumar, "On the convergence of Adam and beyond", ICLR 2018 (`amsgrad`).

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd.optim import Adam
    >>> w = [np.ones(2), np.zeros((2, 3))]
    >>> opt = Adam(w, lr=0.5)
    >>> opt.step([np.ones(2), np.ones((2, 3))])
    >>> w[0].round(6)
    array([0.5, 0.5])
    """


class AdamW(Optimizer, rule="adamw"):
    """Adam with decoupled weight decay; ``torch.optim.AdamW``.

    Notes
    -----
    ::

        p -= lr * weight_decay * p
        then as Adam without weight decay

    References
    ----------
    Loshchilov & Hutter, "Decoupled weight decay regularization", ICLR 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd.optim import AdamW
    >>> w = np.ones(2, dtype=np.float32)
    >>> opt = AdamW(w, lr=0.5, weight_decay=0.0)
    >>> opt.step(np.ones(2, dtype=np.float32))
    >>> w
    array([0.5, 0.5], dtype=float32)
    """


class NAdam(Optimizer, rule="nadam"):
    """Adam with Nesterov momentum; ``torch.optim.NAdam``.

    Notes
    -----
    ::

        m, v as in Adam; mu(t) = beta1 * (1 - 0.96**(t * momentum_decay) / 2), M = M * mu(t)
        p -= lr * ((1 - mu(t)) * g / (1 - M) + mu(t + 1) * m / (1 - M * mu(t + 1)))
        / (sqrt(v^) + eps)

    References
    ----------
    Dozat, "Incorporating Nesterov momentum into Adam", ICLR 2016 workshop.
    """


class RAdam(Optimizer, rule="radam"):
    """Rectified Adam: momentum until the variance is known; ``torch.optim.RAdam``.

    Notes
    -----
    ::

        m, v as in Adam; rho_inf = 2 / (1 - beta2) - 1
        rho = rho_inf - 2 * t * beta2**t / (1 - beta2**t)
        p -= lr * m^ * r * sqrt(1 - beta2**t) / (sqrt(v) + eps) if rho > 5, else lr * m^
        r**2 = (rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)

    References
    ----------
    Liu, Jiang, He, Chen, Liu, Gao, Han, "On the variance of the adaptive learning rate and beyond",
    ICLR 2020.
    """


class Adamax(Optimizer, rule="adamax"):
    """Adam with the infinity norm; ``torch.optim.Adamax``.

    Notes
    -----
    ::

        m as in Adam; u = max(beta2 * u, abs(g) + eps)
        p -= lr * m^ / u

    References
    ----------
    Kingma & Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 2.
    """


class Adagrad(Optimizer, rule="adagrad"):
    """Learning rates that fall with the squares met; ``torch.optim.Adagrad``.

    Notes
    -----
    ::

        s += g**2
        p -= lr / (1 + (t - 1) * lr_decay) * g / (sqrt(s) + eps)

    References
    ----------
    Duchi, Hazan, Singer, "Adaptive subgradient methods for online learning and stochastic
    optimization", JMLR 12, 2011.
    """


class Adadelta(Optimizer, rule="adadelta"):
    """Steps in the unit of the parameters; ``torch.optim.Adadelta``.

    Notes
    -----
    ::

        s = rho * s + (1 - rho) * g**2, d = sqrt(a + eps) / sqrt(s + eps) * g
        a = rho * a + (1 - rho) * d**2, p -= lr * d

    References
    ----------
    Zeiler, "ADADELTA: an adaptive learning rate method", arXiv:1212.5701, 2012.
    """


class RMSprop(Optimizer, rule="rmsprop"):
    """Gradient over its root mean square; ``torch.optim.RMSprop``.

    Notes
    -----
    ::

        s = alpha * s + (1 - alpha) * g**2, centered: a = alpha * a + (1 - alpha) * g
        b = momentum * b + g / (sqrt(s - a**2) + eps), p -= lr * b

    References
    ----------
    Tieleman & Hinton, "Neural networks for machine learning", lecture 6.5, Coursera 2012.
    Graves, "Generating sequences with recurrent neural networks", arXiv:1308.0850, 2013
    (`centered`).
    """


class Rprop(Optimizer, rule="rprop"):
    """Signs of the gradient only, for full batches; ``torch.optim.Rprop``.

    Notes
    -----
    ::

        g * previous g: above 0 step *= eta_plus, below 0 step *= eta_minus and g = 0
        step = clip(step, step_sizes), p -= step * sign(g)

    References
    ----------
    Riedmiller & Braun, "A direct adaptive method for faster backpropagation learning: the RPROP
    algorithm", IEEE ICNN 1993.
    """


class ASGD(Optimizer, rule="asgd"):
    """Averaged stochastic gradient descent; ``torch.optim.ASGD``.

    The average is the state ``"ax"``.

    Notes
    -----
    ::

        p = (1 - lambd * eta) * p - eta * g, ax += mu * (p - ax)
        eta = lr / (1 + lambd * lr * t)**alpha, mu = 1 / max(1, t - t0)

    References
    ----------
    Polyak & Juditsky, "Acceleration of stochastic approximation by averaging", SIAM J. Control
    Optim. 30(4), 1992.
    """


class Lion(Optimizer, rule="lion"):
    """Sign of an interpolated momentum: one state, steps of one size.

    Weight decay is decoupled; ``optax.lion`` is the same.

    Notes
    -----
    ::

        p -= lr * (sign(beta1 * m + (1 - beta1) * g) + weight_decay * p)
        m = beta2 * m + (1 - beta2) * g

    References
    ----------
    Chen, Liang, Huang, Real, Wang, Liu, Pham, Dong, Luong, Hsieh, Lu, Le, "Symbolic discovery of
    optimization algorithms", NeurIPS 2023, algorithm 2.
    """


class Signum(Optimizer, rule="signum"):
    """Sign of the momentum; signSGD with ``momentum=0``.

    Weight decay is decoupled.

    Notes
    -----
    ::

        m = momentum * m + (1 - momentum) * g
        p -= lr * (sign(m) + weight_decay * p)

    References
    ----------
    Bernstein, Wang, Azizzadenesheli, Anandkumar, "signSGD: compressed optimisation for non-convex
    problems", ICML 2018.
    """


class AdaBelief(Optimizer, rule="adabelief"):
    """Adam, divided by how far gradients are from their average.

    Numerics and epsilons are those of ``optax.adabelief``, weight decay is decoupled.

    Notes
    -----
    ::

        m as in Adam; s = beta2 * s + (1 - beta2) * (g - m)**2 + eps_root
        p -= lr * (m^ / (sqrt(s^) + eps) + weight_decay * p)

    References
    ----------
    Zhuang, Tang, Ding, Tatikonda, Dvornek, Papademetris, Duncan, "AdaBelief optimizer: adapting
    stepsizes by the belief in observed gradients", NeurIPS 2020.
    """


class Yogi(Optimizer, rule="yogi"):
    """Adam, whose second average moves by no more than the new square.

    Numerics are those of ``optax.yogi``, weight decay is decoupled.

    Notes
    -----
    ::

        m as in Adam; v -= (1 - beta2) * sign(v - g**2) * g**2
        p -= lr * (m^ / (sqrt(v^) + eps) + weight_decay * p)

    References
    ----------
    Zaheer, Reddi, Sachan, Kale, Kumar, "Adaptive methods for nonconvex optimization", NeurIPS 2018.
    """


class Adan(Optimizer, rule="adan"):
    """Adam with Nesterov momentum from the change of the gradient.

    Numerics are those of ``optax.adan``, whose betas are one minus the paper's.

    Notes
    -----
    ::

        d = g - previous g, m as in Adam, v = beta2 * v + (1 - beta2) * d
        n = beta3 * n + (1 - beta3) * (g + (1 - beta2) * d)**2
        p -= lr * ((m^ + (1 - beta2) * v^) / (sqrt(n^ + eps_root) + eps) + weight_decay * p)

    References
    ----------
    Xie, Zhou, Li, Lin, Yan, "Adan: adaptive Nesterov momentum algorithm for faster optimizing deep
    models", arXiv:2208.06677, 2022.
    """


class FTRL(Optimizer, rule="ftrl"):
    """FTRL-Proximal: follow the regularised leader, for sparse weights.

    Parameters whose gradients were all zero stay as they were, as long as `lr` does.

    Notes
    -----
    ::

        z += g - (sqrt(n + g**2) - sqrt(n)) / lr * p, n += g**2
        p = 0 if abs(z) <= l1, else -(z - sign(z) * l1) / ((beta + sqrt(n)) / lr + l2)

    References
    ----------
    McMahan et al., "Ad click prediction: a view from the trenches", KDD 2013, algorithm 1.
    """


class _ScheduleFree(Optimizer):
    """What the schedule-free rules share: the parameters are not the result."""

    def eval_params(self) -> list[Array]:
        """Return the averages to use and to evaluate, one array for each parameter.

        x = (y - (1 - beta) z) / beta, with y the parameter and beta the first of the betas; before
        the first step the parameters themselves.

        Returns
        -------
        list of ndarray
        """
        found = []
        for group in self.param_groups:
            beta = group["betas"][0] if "betas" in group else group["beta"]
            for i in group.members:
                y, z = self.params[i], self.state[i]["z"]
                untouched = self.progress(i)[0] == 0
                found.append(y.copy() if untouched else (y - (1 - beta) * z) / beta)
        return found


class ScheduleFreeSGD(_ScheduleFree, rule="schedule_free_sgd"):
    """SGD that needs no schedule: an average takes its place.

    The parameters hold the point where gradients are to be taken; the result is
    ``opt.eval_params()``.
    Numerics are those of ``optax.contrib.schedule_free_sgd``.

    Notes
    -----
    ::

        z -= lr * (g + weight_decay * p), x = (1 - c) * x + c * z
        p = beta * x + (1 - beta) * z, where c = w / sum(w), w = max(lr)**weight_lr_power

    References
    ----------
    Defazio, Yang, Mehta, Mishchenko, Khaled, Cutkosky, "The road less scheduled", NeurIPS 2024.
    """


class ScheduleFreeAdamW(_ScheduleFree, rule="schedule_free_adamw"):
    """AdamW that needs no schedule: an average takes its place.

    The parameters hold the point where gradients are to be taken; the result is
    ``opt.eval_params()``.
    Numerics are those of ``optax.contrib.schedule_free_adamw``.

    Notes
    -----
    ::

        v as in Adam; z -= lr * (g / (sqrt(v^) + eps) + weight_decay * p)
        x and p as in ScheduleFreeSGD, with beta1 for beta

    References
    ----------
    Defazio, Yang, Mehta, Mishchenko, Khaled, Cutkosky, "The road less scheduled", NeurIPS 2024.
    """


class LARS(Optimizer, rule="lars"):
    """Momentum with steps in proportion to each parameter array's length.

    Numerics are those of ``optax.lars``. A parameter array counts as a layer.

    Notes
    -----
    ::

        u = g + weight_decay * p, r = trust_coefficient * |p| / (|u| + eps)
        b = momentum * b + lr * r * u, p -= b, with nesterov lr * r * u + momentum * b

    References
    ----------
    You, Gitman, Ginsburg, "Large batch training of convolutional networks", arXiv:1708.03888, 2017.
    """


class LAMB(Optimizer, rule="lamb"):
    """Adam with steps in proportion to each parameter array's length.

    Numerics are those of ``optax.lamb``. A parameter array counts as a layer.

    Notes
    -----
    ::

        m, v as in Adam; u = m^ / (sqrt(v^ + eps_root) + eps) + weight_decay * p
        p -= lr * |p| / |u| * u

    References
    ----------
    You, Li, Reddi, Hseu, Kumar, Bhojanapalli, Song, Demmel, Keutzer, Hsieh, "Large batch
    optimization for deep learning: training BERT in 76 minutes", ICLR 2020.
    """


class Prodigy(Optimizer, rule="prodigy"):
    """Adam that finds its own learning rate: the distance to the solution, estimated as it goes.

    Leave `lr` at 1, or at a schedule that ends low. The estimate ``d`` is one for all parameters,
    in each parameter's part of ``state_dict()``; `beta3`, `d0` and `d_coef` should be the same in
    all groups, those of the first count. Numerics are those of ``optax.contrib.prodigy``, whose
    names for `d0` and `d_coef` are estim_lr0 and estim_lr_coef; while all gradients are zero, d
    stays, where optax gets NaN. Of the paper's code `growth_rate` and `decouple` are not here: the
    estimate may grow as it likes, and weight decay is decoupled.

    Notes
    -----
    ::

        rate = lr * d * sqrt(1 - beta2**t) / (1 - beta1**t), summing over all parameters:
        r = beta3 * r + rate * d / d0 * sum(g * (p0 - p))
        s = beta3 * s + rate * d / d0 * g, with safeguard_warmup d * d / d0 * g
        m = beta1 * m + (1 - beta1) * d * g, v = beta2 * v + (1 - beta2) * (d * g)**2
        d = max(d, d_coef * r / sum(abs(s)))
        p -= rate * (m / (sqrt(v) + d * eps) + weight_decay * p)

    References
    ----------
    Mishchenko & Defazio, "Prodigy: an expeditiously adaptive parameter-free learner", ICML 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd.optim import Prodigy
    >>> w = np.zeros(1)
    >>> opt = Prodigy(w)
    >>> for _ in range(200):
    ...     opt.step(2 * (w - 3))
    >>> w.round(2)
    array([3.])
    >>> 1 < opt.state_dict()["state"][0]["d"] < 3
    True
    """


class Adafactor(Optimizer, rule="adafactor"):
    """Second moments of rows and columns in place of elements; ``torch.optim.Adafactor``.

    A parameter of two or more axes is a stack of matrices, its last two axes: ``row_var`` and
    ``col_var`` hold a number for each row and column, a vector has its ``variance``. The first
    `eps` is the distance from 1 to the next number of the parameter's dtype if it is None.
    ``optax.adafactor`` is the same for matrices with ``min_dim_size_to_factor=1``, an eps near 0
    and the learning rate ``min(lr, 1 / sqrt(t))``; by default it adds eps to the squares, factors
    the two largest axes and only those of 128 and more, and leaves the learning rate as it is.

    Notes
    -----
    ::

        a = t**beta2_decay, r = (1 - a) * r + a * mean of g**2 over columns, c the same over rows
        v = r * c / max(mean(r), eps1), of a vector v = (1 - a) * v + a * g**2
        u = g / sqrt(max(v, eps1**2)), x = max(eps2, rms(p)) * min(lr, 1 / sqrt(t))
        p = (1 - lr * weight_decay) * p - x * u / max(1, rms(u) / d)

    References
    ----------
    Shazeer & Stern, "Adafactor: adaptive learning rates with sublinear memory cost", ICML 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd.optim import Adafactor
    >>> w = np.ones((3, 4))
    >>> opt = Adafactor(w, lr=0.1)
    >>> opt.step(np.ones((3, 4)))
    >>> w[0]
    array([0.9, 0.9, 0.9, 0.9])
    >>> {name: a.shape for name, a in opt.state[0].items()}
    {'row_var': (3, 1), 'col_var': (1, 4)}
    """


class SparseAdam(Optimizer, rule="sparse_adam"):
    """Adam on the rows that have a gradient; the others rest. ``torch.optim.SparseAdam``.

    Gradients are :class:`RowGradient`, sparse matrices of SciPy, or arrays, which have all rows.
    Rows without gradient are not read: neither do their averages decay, nor do they go on from old
    speed. ``SGD`` without momentum and weight decay and ``Adagrad`` without weight decay take such
    gradients, too.

    Notes
    -----
    ::

        m, v as in Adam, of the rows that have a gradient
        p -= lr * sqrt(1 - beta2**t) / (1 - beta1**t) * m / (sqrt(v) + eps)

    References
    ----------
    Kingma & Ba, "Adam: a method for stochastic optimization", ICLR 2015; lazy as in torch.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd.optim import RowGradient, SparseAdam
    >>> table = np.ones((1000, 2))
    >>> opt = SparseAdam(table, lr=0.1)
    >>> for _ in range(3):
    ...     rows = np.array([7, 3, 7])
    ...     opt.step(RowGradient(rows, table[rows]))
    >>> table[[3, 4, 7]].round(2).tolist()
    [[0.7, 0.7], [1.0, 1.0], [0.7, 0.7]]
    """


class Muon(Optimizer, rule="muon"):
    """Momentum made orthonormal: steps of one size in all directions; ``torch.optim.Muon``.

    For matrices, and for the filters of convolutions, which torch refuses: a tensor of shape
    (out, in, height, width) is taken as the matrix (out, in * height * width). Anything else
    belongs to another optimizer.

    The iteration is done in the parameter's precision, where torch's is in bfloat16: results agree
    to about two digits, and ours are the closer ones to those of exact arithmetic (float32: 2e-3).

    Notes
    -----
    ::

        b = momentum * b + (1 - momentum) * g
        u = b, with nesterov momentum * b + (1 - momentum) * g
        X = u / max(|u|, eps); ns_steps times: A = X X', X = (a + b A + c A A) X
        p -= lr * weight_decay * p + lr * sqrt(max(1, rows / columns)) * X

    References
    ----------
    Jordan, Jin, Boza, You, Cesista, Newhouse, Bernstein, "Muon: an optimizer for hidden layers in
    neural networks", 2024.
    Liu et al., "Muon is scalable for LLM training", arXiv:2502.16982, 2025 (`adjust_lr_fn`).

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd.optim import Muon
    >>> w = np.zeros((2, 2))
    >>> opt = Muon(w, lr=1.0)
    >>> opt.step(np.array([[3.0, 0.0], [0.0, -4.0]]))
    >>> w.round(3)
    array([[-0.723,  0.   ],
           [ 0.   ,  1.119]])
    """


class MuSGD(Optimizer, rule="musgd"):
    """Muon, then SGD with momentum, in one step: what trains YOLO26; ``ultralytics.optim.MuSGD``.

    In groups with ``use_muon=True``, tensors of two or more dimensions get both halves, taken as
    matrices (first dimension, all others); the rest gets the SGD half. In other groups it is
    :class:`SGD` without dampening.

    The iteration is done in the parameter's precision, where Ultralytics' is in bfloat16: results
    agree to about two digits, and ours are the closer ones to those of exact arithmetic (float32:
    2e-3).

    Notes
    -----
    ::

        b = momentum * b + (1 - momentum) * g
        u = b, with nesterov momentum * b + (1 - momentum) * g
        X = u / (|u| + 1e-7), made orthonormal as in Muon, 5 times
        p -= lr * muon * sqrt(max(1, p.shape[-2] / p.shape[-1])) * X
        g += weight_decay * p
        s = momentum * s + g, p -= lr * sgd * s, with nesterov lr * sgd * (g + momentum * s)

    References
    ----------
    Jocher et al., Ultralytics YOLO26, 2025; the halves: see Muon and SGD.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd.optim import MuSGD
    >>> kernel, bias = np.zeros((4, 2, 3, 3)), np.zeros(4)
    >>> groups = [{"params": [kernel], "use_muon": True}, {"params": [bias]}]
    >>> opt = MuSGD(groups, lr=0.1, momentum=0.9, nesterov=True)
    >>> opt.step([np.ones_like(kernel), np.ones_like(bias)])
    >>> list(opt.state[0]), list(opt.state[1])
    (['momentum_buffer', 'momentum_buffer_SGD'], ['momentum_buffer'])
    """
