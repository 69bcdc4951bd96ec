"""The mutations: each changes what a reader learns, so each must be noticed by the notebook's own cells."""

from __future__ import annotations

from tests.mutants.mutation import Mutant

__all__ = ["MUTANTS"]

_RECORDER = "core/execution/recorder.py"
_PANELS = "views/panels.py"
_REGION = "analysis/trust_region_step.py"
_HESSIAN = "core/autodiff/hessian.py"


def _in_cells(notebook: str, *rows: tuple[str, str, str]) -> list[Mutant]:
    return [Mutant(notebook, *row) for row in rows]


MUTANTS = [
    *_in_cells(
        "00_index",
        ("text", 'if "scipy" in row.engines', "if row.engines"),
        ("constant", '["cells"][0]["source"]', '["cells"][1]["source"]'),
    ),
    *_in_cells(
        "01_quickstart",
        ("constant", "loss + 5e-4 * model", "loss + 5e-3 * model"),
        ("text", "argmax(dim=1) == data.test_labels", "argmin(dim=1) == data.test_labels"),
        ("text", "newton_model.bias.data += 3.7", "newton_model.bias.data[0] += 3.7"),
    ),
    *_in_cells(
        "02_method_explorer",
        ("constant", 'settings={"n": 10, "condition": 1e4})', 'settings={"n": 10, "condition": 1e2})'),
        ("text", "row.products for row in rows", "row.closure_calls for row in rows"),
    ),
    *_in_cells(
        "03_reading_the_dashboard",
        ("constant", "torch.logspace(0, 4, 30", "torch.logspace(0, 3, 30"),
        ("constant", "cut.loss[-2] - 7", "cut.loss[-2] - 6.9"),
        ("constant", "torch.exp(-1.3 * times)", "torch.exp(-1.5 * times)"),
        ("picture", '"loss − best": excess', '"loss − best": lifted.loss'),
        ("picture", "{name: run.grad_norm for", "{name: run.loss for"),
    ),
    Mutant("03_reading_the_dashboard", "library", "grad_norm=two,", "grad_norm=largest,", _RECORDER),
    Mutant(
        "03_reading_the_dashboard",
        "picture",
        'Panel("gradient norm", "grad_norm"',
        'Panel("gradient norm", "step_norm"',
        _PANELS,
    ),
    *_in_cells(
        "04_choosing_a_method",
        ("constant", "PRICE = 2 ", "PRICE = 1 "),
        ("constant", "theta=1e-5", "theta=1e-2"),
        ("constant", "tau=1e-5", "tau=1e-2"),
    ),
    *_in_cells(
        "10_gradient_free",
        ("constant", "slide(4.0, 0.6)", "slide(4.0, 0.7)"),
        ("constant", "SIGMA = 0.01", "SIGMA = 0.02"),
    ),
    *_in_cells(
        "11_nelder_mead",
        ("constant", "c + 2 * (c - worst)", "c + 1.5 * (c - worst)"),
        ("constant", "np.linalg.det(corners[1:] - corners[0])) / 2", "np.linalg.det(corners[1:] - corners[0])) / 3"),
        ("text", "c = (best + second) / 2", "c = (best + second + worst) / 3"),
    ),
    *_in_cells(
        "12_powell",
        ("text", "[*directions[1:], new]", "[*directions[:-1], new]"),
        ("constant", "golden = (1 + 5**0.5) / 2", "golden = (1 + 6**0.5) / 2"),
        ("constant", "x - (d @ hessian @ (x - 1)) /", "x - 0.9 * (d @ hessian @ (x - 1)) /"),
    ),
    *_in_cells(
        "13_cobyla",
        ("constant", "rho = 0.5", "rho = 0.4"),
        ("constant", "[sign < 0], 0.985)", "[sign < 0], 0.95)"),
    ),
    *_in_cells(
        "14_cobyqa",
        ("constant", "(f[1:3] - f[3:5]) / 2", "(f[1:3] - f[3:5]) / 3"),
        ("text", "f[1:3] - 2 * f[0] +", "f[1:3] - f[0] +"),
    ),
    *_in_cells(
        "20_first_order",
        ("picture", "(conditions, values) for name", "(conditions, values[::-1]) for name"),
        ("constant", "rate = factor * 2 / 30", "rate = factor * 1.5 / 30"),
        ("constant", "momentum=((root - 1) / (root + 1)) ** 2)\n    plain", "momentum=0.0)\n    plain"),
    ),
    *_in_cells(
        "21_cg",
        ("picture", "(h.nfev, h.grad_norm)", "(h.nfev, h.loss)"),
        ("text", "after @ (after - before) / (before @ before))", "after @ after / (before @ before))"),
        ("constant", "[1.0, 10.0, 100.0] * 10", "[1.0, 10.0, 50.0, 70.0, 100.0] * 6"),
    ),
    *_in_cells(
        "30_quasi_newton",
        ("constant", "points.append(b - slope(b)", "points.append(b - 0.9 * slope(b)"),
        ("constant", "np.sinh(x) / 2 - 2", "np.sinh(x) / 2 - 2.5"),
    ),
    *_in_cells(
        "31_bfgs",
        ("constant", "covariance(gp.closure, scale=0.01)", "covariance(gp.closure, scale=0.011)"),
        ("constant", "covariance(scale=0.01)", "covariance(scale=0.011)"),
        ("text", "np.outer(s, s) / (y @ s)\n\n\ndef all", "np.outer(s, s) / (s @ s)\n\n\ndef all"),
        ("constant", "make(condition=10.0, start=[-1.0, 1.5])", "make(condition=20.0, start=[-1.0, 1.5])"),
        ("picture", '"error of H": errors', '"error of H": errors / 10'),
        ("picture", "np.array(spent, float)", "np.array(spent[::-1], float)"),
    ),
    Mutant(
        "31_bfgs",
        "library",
        "lengths, scale, values, free)",
        "lengths, 1.1 * scale, values, free)",
        "core/covariance/inverse.py",
    ),
    *_in_cells(
        "32_l_bfgs_b",
        ("picture", '(memory, chain), "Breast', '(memory, cancer), "Breast'),
        ("text", "alphas.append(si @ q / (yi @ si))", "alphas.append(yi @ q / (yi @ si))"),
        ("text", "(s[-1] @ y[-1]) / (y[-1] @ y[-1]) * q", "(s[0] @ y[0]) / (y[0] @ y[0]) * q"),
        ("constant", "old = max(0, k - 3)", "old = max(0, k - 5)"),
        ("constant", "torch.float32, ftol=1.2e-7)", "torch.float32, ftol=1.2e-10)"),
    ),
    *_in_cells(
        "40_newton_and_trust_region",
        ("constant", "sizes = {method: 8 * METHODS", "sizes = {method: 4 * METHODS"),
        ("constant", "+ c * history.totals.nhvp", "+ 2 * c * history.totals.nhvp"),
    ),
    *_in_cells(
        "41_newton_cg",
        ("text", "min(0.5, norm.sqrt())", "min(0.5, norm)"),
        ("constant", "lambda norm: 0.5)", "lambda norm: 0.9)"),
        ("picture", "Mark(products, norms, name", "Mark(2 * products, norms, name"),
    ),
    *_in_cells(
        "42_trust_ncg",
        ("constant", "if ratio > 0.75 and on_boundary", "if ratio > 0.8 and on_boundary"),
        ("constant", "if ratio < 0.25:", "if ratio < 0.2:"),
        ("constant", "{8 * n**2 / 1e6:.0f} MB", "{4 * n**2 / 1e6:.0f} MB"),
        ("picture", "np.array([0, p[0]]), np.array([0, p[1]])", "np.array([0, 2 * p[0]]), np.array([0, p[1]])"),
        ("text", 'p + to_edge[0] * d, "boundary"', 'p + to_edge[1] * d, "boundary"'),
        ("text", "return min(ends, key", "return max(ends, key"),
    ),
    Mutant("42_trust_ncg", "picture", "return -share * radius", "return -2 * share * radius", _REGION),
    Mutant("42_trust_ncg", "picture", "radius=radius,", "radius=radius / 2,", _REGION),
    *_in_cells(
        "43_trust_krylov",
        (
            "constant",
            "multiplier = -float((H @ p + g) @ p / (p @ p))",
            "multiplier = -1.02 * float((H @ p + g) @ p / (p @ p))",
        ),
        ("constant", "if ratio > 0.75 and on_boundary", "if ratio > 0.9 and on_boundary"),
        ("constant", "RADIUS = 5.0", "RADIUS = 6.0"),
    ),
    *_in_cells(
        "44_trust_exact",
        ("constant", "(np.diag(H) + 1 + 1e-12)", "(np.diag(H) + 1.02 + 1e-12)"),
        ("constant", "if ratio > 0.75 and on_boundary", "if ratio > 0.8 and on_boundary"),
        ("constant", "shift = -float(", "shift = -1.02 * float("),
        (
            "picture",
            "(-slope / (bend + shift)).numpy() for shift in (1.17",
            "(-slope / (bend - shift)).numpy() for shift in (1.17",
        ),
    ),
    Mutant("44_trust_exact", "library", "return hessian.mul_(0.5)", "return hessian.mul_(0.505)", _HESSIAN),
    *_in_cells(
        "45_dogleg",
        ("constant", "cauchy, newton = -(g @ g) / (g @ B @ g) * g", "cauchy, newton = -2 * (g @ g) / (g @ B @ g) * g"),
        ("constant", "dict(initial_trust_radius=1.2)", "dict(initial_trust_radius=1.3)"),
        ("constant", "if ratio > 0.75 and on_boundary", "if ratio > 0.9 and on_boundary"),
    ),
    *_in_cells(
        "46_tnc",
        ("constant", ".numpy() / np.linalg.norm(v)\n", ".numpy() / (2 * np.linalg.norm(v))\n"),
        ("picture", "(history.nfev + history.nhvp, history.grad_norm)", "(history.nfev, history.grad_norm)"),
    ),
    *_in_cells(
        "50_constrained",
        ("constant", "Constraint(lambda: x.prod(), lower=25)", "Constraint(lambda: x.prod(), lower=24)"),
        ("constant", "v += 1.0 * c(x).item()", "v += 0.3 * c(x).item()"),
        ("constant", "rho / 2 * c(x) ** 2", "rho * c(x) ** 2"),
        ("picture", 'ρ = 1": (range(7), augmented)', 'ρ = 1": (range(7), violations)'),
        ("picture", 'curve(rising.x, dense).numpy(), "slope', 'curve(free.x, dense).numpy(), "slope'),
    ),
    *_in_cells(
        "51_slsqp",
        ("constant", "lower=[25, 40], upper=[math.inf, 40]", "lower=[26, 40], upper=[math.inf, 40]"),
        ("constant", "torch.tensor([25.0, 40.0])", "torch.tensor([24.0, 40.0])"),
        (
            "text",
            "missed = ((features @ w[1:] + w[0] > 0) & ~benign)",
            "missed = ((features @ w[1:] + w[0] > 0) & benign)",
        ),
        ("picture", "value - v * (ends - limit)", "value - 2 * v * (ends - limit)"),
        ("picture", "(range(len(full)), full)", "(range(len(real)), real)"),
    ),
    *_in_cells(
        "52_trust_constr",
        ("constant", "(7 if ratio >= 0.9", "(5 if ratio >= 0.9"),
        ("constant", "radius / 10)", "radius / 5)"),
        ("constant", "2 if ratio >= 0.3 else 0", "3 if ratio >= 0.3 else 0"),
        ("picture", "walled = bare - mu * np.log(1 - place**2)", "walled = bare - mu * np.log(1 + place**2)"),
        ("picture", 'fair.numpy(), "best worst', 'of_the_mean.numpy(), "best worst'),
    ),
    *_in_cells(
        "60_global_search",
        ("constant", "math.log(0.01)", "math.log(0.05)"),
    ),
    *_in_cells(
        "61_basin_hopping",
        ("text", "{np.exp(x[0]):.2f} and", "{np.exp(x[3]):.2f} and"),
    ),
    *_in_cells(
        "62_dual_annealing",
        ("constant", "visit=2.62, initial=5230.0", "visit=2.5, initial=5230.0"),
        ("constant", "visit=2.62, initial=5230.0", "visit=2.62, initial=5000.0"),
        ("text", "sorted((12 * optimizer.result.x)", "sorted((10 * optimizer.result.x)"),
    ),
    *_in_cells(
        "63_differential_evolution",
        ("constant", "sorted((12 * search.result.x)", "sorted((10 * search.result.x)"),
    ),
    *_in_cells(
        "64_shgo_direct_brute",
        ("constant", "third = intervals[c] / 3", "third = intervals[c] / 2"),
    ),
    *_in_cells(
        "70_least_squares",
        ("constant", "jacobian = torch.func.jacrev", "jacobian = 2 * torch.func.jacrev"),
        ("picture", "(range(len(pure)), pure)", "(range(len(pure)), damped[: len(pure)])"),
    ),
    *_in_cells(
        "80_how_the_hessian_is_made",
        ("constant", "1e-3 * largest[0]", "1e-2 * largest[0]"),
        (
            "text",
            "return flat(torch.autograd.grad(g @ v, parameters))",
            "return flat(torch.autograd.grad(g @ g, parameters))",
        ),
        ("constant", "limit = math.sqrt(16e9 / 8)", "limit = math.sqrt(16e9 / 4)"),
        ("picture", "(sizes, 8 * sizes**2)", "(sizes, 4 * sizes**2)"),
        ("picture", "np.array(values), name", "10 * np.array(values), name"),
    ),
    Mutant("80_how_the_hessian_is_made", "library", "return hessian.mul_(0.5)", "return hessian.mul_(0.505)", _HESSIAN),
    *_in_cells(
        "81_float32_and_float64",
        ("constant", "step = eps[torch.float32] ** 0.5", "step = eps[torch.float32] ** 0.33"),
        ("text", "ftol = accuracy {given:.1e}", "ftol = accuracy {zero:.1e}"),
        ("picture", 'curves[torch.float32], "float32"', 'curves[torch.float64], "float32"'),
        ("picture", "Mark(place, history.grad_norm,", "Mark(place, history.loss,"),
    ),
    *_in_cells(
        "82_when_things_go_wrong",
        ("constant", "dropout = torch.nn.Dropout(0.2)", "dropout = torch.nn.Dropout(0.0)"),
        ("constant", "(x - 5 * x.log())", "(x - 6 * x.log())"),
        ("picture", "[evaluation.grad_norm for evaluation", "[evaluation.loss for evaluation"),
    ),
    *_in_cells(
        "90_pinn",
        ("constant", "-2 * value * rise * W[0] ** 2", "-value * rise * W[0] ** 2"),
        ("constant", "- 2 * np.sqrt(NU * t)", "- np.sqrt(NU * t)"),
        ("picture", '"float32": (1e6 * places, 1e9 * rough)', '"float32": (1e6 * places, 1e9 * smooth)'),
    ),
    *_in_cells(
        "93_inverse_problem",
        ("constant", "target_loss=0.5)", "target_loss=0.45)"),
        ("text", "misfit(x) + lam * variation(x)", "misfit(x) + variation(x)"),
        ("picture", '"": (long_run.history.loss, path)', '"": (long_run.history.loss, path[::-1])'),
    ),
    *_in_cells(
        "94_gaussian_process",
        ("text", "torch.outer(alpha, alpha), slopes) / 2", "torch.outer(alpha, alpha), slopes)"),
        ("constant", "math.log(0.7), math.log(4.0)", "math.log(1.4), math.log(4.0)"),
        ("text", "kernel(theta, years[:, None] - years)", "kernel(theta, 2 * (years[:, None] - years))"),
        ("picture", '"amplitude a": (steps, rise["a"])', '"amplitude a": (steps, rise["P"])'),
        "91_hessian_spectrum",
        ("constant", "lr=share * 2 / found.values[-1]", "lr=share * 1 / found.values[-1]"),
        ("picture", "(np.arange(1, 13), highest) for", "(np.arange(1, 13), highest[::-1]) for"),
    ),
    *_in_cells(
        "92_laplace",
        ("constant", "scale=1 / 100)", "scale=1 / 10)"),
        ("text", "(1 - 2 * virginica) * outputs", "(2 * virginica - 1) * outputs"),
    ),
    *_in_cells(
        "95_full_batch_and_torchrun",
        ("text", "for batch in in_order]).mean()", "for batch in in_order]).sum()"),
        ("text", "part = shard(TensorDataset(images, labels))", "part = TensorDataset(images, labels)"),
    ),
    *_in_cells(
        "96_why_did_it_stop",
        ("constant", "load_iris().data) / 100", "load_iris().data)"),
        ("text", "s = log_s.exp().detach() if DETACH", "s = log_s.exp() if DETACH"),
    ),
]
