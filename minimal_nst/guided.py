r"""Style in a region: Gram matrices, or means and covariances, of the positions that belong to it.

Glossary::

    M, N    positions and channels of a layer
    F       (M, N) features of the generated picture, one row per position
    T, P    (M, 1) how much each position belongs to the region, and the sum of its squares
    G, A    (N, N) Gram matrices per position, of the generated and of the style picture
    C, mu   (N, N) covariance and (1, N) mean of the features
    dF      dL/dF, of the shape of F
"""

from __future__ import annotations

import operator
from typing import Any

from .backend import Array, sum_of
from .losses import Product, gram_matrix


def area(T: Array, contract: Product = operator.matmul) -> Array:
    """P, as a matrix of one number; it is a sum over positions as the others are."""
    return contract(T.T, T)


def guided_gram_matrix(F: Array, T: Array, contract: Product = operator.matmul) -> Array:
    r"""Correlations between the channels in one region, per position.

    .. math:: G_{ij} = \frac{1}{P} \sum_m T_m^2 F_{mi} F_{mj}, \qquad P = \sum_m T_m^2

    Parameters
    ----------
    F : (M, N) array
        Features, one row per position.
    T : (M, 1) array
        How much each position belongs to the region, 0 to 1; somewhere it must.
    contract : callable
        Multiplies two matrices.

    Returns
    -------
    (N, N) array

    References
    ----------
    Gatys et al. (2017), "Controlling Perceptual Factors in Neural Style Transfer", eqs. 6 and 7.
    The course: :eq:`guided`.
    """
    return gram_matrix(T * F, contract) / area(T, contract)


def guided_style_loss(
    F: Array,
    A: Array,
    T: Array,
    weight: float = 1.0,
    contract: Product = operator.matmul,
    transform: Product = operator.matmul,
) -> tuple[Any, Array]:
    r"""Squared distance between the Gram matrices of two regions, and its gradient.

    .. math:: E = \frac{1}{4 N^2} \sum_{ij} (G_{ij} - A_{ij})^2, \qquad
              \frac{\partial E}{\partial F} = \frac{1}{N^2 P} \, T^2 \circ F (G - A)

    Where T is 1 everywhere it is `style_loss`.

    Parameters
    ----------
    F : (M, N) array
        Features of the generated picture, one row per position.
    A : (N, N) array
        `guided_gram_matrix` of the style picture, in its own region.
    T : (M, 1) array
        How much each position belongs to the region, 0 to 1.
    weight : float
        Factor of both results.
    contract, transform : callable
        Multiply two matrices, as in `style_loss`.

    Returns
    -------
    loss : float
    dF : (M, N) array

    References
    ----------
    Gatys et al. (2017), section 4.
    The course: :eq:`guided`, :eq:`dguided`.
    """
    D = guided_gram_matrix(F, T, contract) - A
    scale = weight / F.shape[1] ** 2
    return scale / 4 * sum_of(D * D), (scale / area(T, contract)) * (T * T) * transform(F, D)


def mean_covariance(
    F: Array, T: Array, contract: Product = operator.matmul
) -> tuple[Array, Array, Array]:
    r"""Mean features in a region, and their covariance.

    .. math:: \mu = \frac{1}{P} \sum_m T_m^2 F_m, \qquad
              C = \frac{1}{P} \sum_m T_m^2 (F_m - \mu)^T (F_m - \mu)

    The Gram matrix per position is their sum, :math:`C + \mu^T \mu`, from which C is computed.

    Parameters
    ----------
    F : (M, N) array
        Features, one row per position.
    T : (M, 1) array
        How much each position belongs to the region, 0 to 1.
    contract : callable
        Multiplies two matrices.

    Returns
    -------
    C : (N, N) array
    B : (N, N) array
        The mean's products with itself, of the units of C.
    mu : (1, N) array
    """
    P = area(T, contract)
    mu = contract((T * T).T, F) / P
    B = mu.T * mu
    return gram_matrix(T * F, contract) / P - B, B, mu


def mean_covariance_loss(
    F: Array,
    C: Array,
    B: Array,
    T: Array,
    weight: float = 1.0,
    contract: Product = operator.matmul,
    transform: Product = operator.matmul,
) -> tuple[Any, Array]:
    r"""Squared distances between means and between covariances, and their gradient.

    .. math:: E = \frac{1}{4 N^2} \sum_{ij} (C_{ij} - C^s_{ij})^2
                  + ((\mu^T \mu)_{ij} - B^s_{ij})^2

    A Gram matrix can be right although both of its parts are wrong; here each has to match. Both
    are measured in the Gram matrix's units, so that weights stay what they are.

    Parameters
    ----------
    F : (M, N) array
        Features of the generated picture, one row per position.
    C, B : (N, N) arrays
        From `mean_covariance` of the style picture.
    T : (M, 1) array
        How much each position belongs to the region, 0 to 1.
    weight : float
        Factor of both results.
    contract, transform : callable
        Multiply two matrices, as in `style_loss`.

    Returns
    -------
    loss : float
    dF : (M, N) array
    """
    covariance, products, mu = mean_covariance(F, T, contract)
    D, D_mu = covariance - C, products - B
    scale = weight / F.shape[1] ** 2
    pull = transform(F - mu, D) + transform(mu, D_mu)
    dF = (scale / area(T, contract)) * (T * T) * pull
    return scale / 4 * (sum_of(D * D) + sum_of(D_mu * D_mu)), dF
