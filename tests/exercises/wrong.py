"""Wrong answers, three for each exercise that has them here: changes of the reference solution that must not pass."""

from __future__ import annotations

__all__ = ["WRONG"]

WRONG: dict[str, list[tuple[str, str]]] = {
    "03_reading_the_dashboard": [
        ("factor * largest", "1e-3"),
        ("factor * largest", "1e-6"),
        ("return iteration.trust_radius < factor * largest", "return False"),
    ],
    "13_cobyla": [
        ("[sign > 0], share", "[sign < 0], share"),
        ("share), lower=0.0", "5 * share), lower=0.0"),
        ("share), lower=0.0", "share), upper=0.0"),
    ],
    "14_cobyqa": [
        ("return float(optimizer.step(problem.closure))", "return PROBLEMS['NIST Misra1a'].make().best_loss"),
        ("return float(optimizer.step(problem.closure))", "return 0.0"),
        (", scale=scale", ""),
    ],
    "21_cg": [
        ("return optimizer.history.totals.nfev", "return 1"),
        ("return optimizer.history.totals.nfev", "return 20"),
        ("curvature.rsqrt()", "curvature"),
    ],
    "30_quasi_newton": [
        ("np.linalg.inv(bfgs(np.linalg.inv(h), y, s))", "bfgs(h, s, y)"),
        ("np.linalg.inv(bfgs(np.linalg.inv(h), y, s))", "np.outer(s, s) / (s @ y)"),
        ("np.linalg.inv(bfgs(np.linalg.inv(h), y, s))", "bfgs(np.linalg.inv(h), y, s)"),
    ],
    "31_bfgs": [
        (", hess_inv0=learnt", ""),
        ("prepared(decay, start=first.result.x), hess", "prepared(decay), hess"),
        ("cold, warm = cold_run.history.totals.nfev, warm_run.history.totals.nfev", "cold, warm = 100, 10"),
    ],
    "40_newton_and_trust_region": [
        ("if history.final_loss < 1e-4", ""),
        ("price(solved[name], c)", "price(solved[name], 0)"),
        ("price(solved[name], c)", "len(solved[name])"),
    ],
    "41_newton_cg": [
        ("return p if p.any() else -g", "return -g"),
        ("return p if p.any() else -g", "return d"),
        ("    return p\n", "    return -g\n"),
    ],
    "42_trust_ncg": [
        ('which="SA"', 'which="LA"'),
        ("stopped.x + 0.1 * direction", "stopped.x"),
        ("lowest(tilted, stopped.x)", "(-0.9, torch.eye(20, dtype=torch.float64)[0])"),
    ],
    "43_trust_krylov": [
        ("return next(k for k in range(1, len(g) + 1) if value(g, H, radius, k) <= 0.99 * full)", "return 5"),
        ("0.99 * full", "0.9 * full"),
        ("0.99 * full", "0.9999 * full"),
    ],
    "44_trust_exact": [
        ("shift = -float((H @ p + g) @ p / (p @ p))", "shift = float((H @ p + g) @ p / (p @ p))"),
        ("shift = -float((H @ p + g) @ p / (p @ p))", "shift = 0.0"),
        ("/ walk.trust_radius[k]", "/ walk.trust_radius[k + 1] ** 2"),
    ],
    "45_dogleg": [
        ("if np.linalg.norm(newton) < radius:", "if True:"),
        ("cauchy + crossing(cauchy, newton - cauchy, radius) * (newton - cauchy)", "cauchy"),
        ("cauchy = -(g @ g) / (g @ B @ g) * g", "cauchy = -g"),
    ],
    "50_constrained": [
        ("w.sum(), 1, 1", "w.sum(), 2, 2"),
        ("lambda: w @ C @ w", "lambda: w @ w"),
        ("v = np.concatenate(optimizer.result.multipliers)", "v = np.zeros(2)"),
    ],
    "51_slsqp": [
        ("faces @ p, mean, mean", "faces @ p, 3.5, 3.5"),
        ("p @ p.log()", "p @ p"),
        ("v = np.concatenate(optimizer.result.multipliers)", "v = np.zeros(2)"),
    ],
    "52_trust_constr": [
        ("options=dict(gtol=0.0)", "options=dict(gtol=1e-2)"),
        ("upper=0)", "upper=1)"),
        ("(v,) = optimizer.result.multipliers", "v = np.full(30, 1 / 30)"),
    ],
    "61_basin_hopping": [
        ("return best", "return 0.0"),
        ("return best", "return held.fun + 2"),
        ("held.x + torch.from_numpy(", "0 * held.x + torch.from_numpy("),
    ],
    "62_dual_annealing": [
        ("t = 1\n", "t = 0.5\n"),
        ("return (2 ** (visit - 1) - 1) / ((1 + t) ** (visit - 1) - 1)", "return 1 / (1 + t)"),
        ("        t += 1\n    return t", "        t += 1\n    return t - 1"),
    ],
    "70_least_squares": [
        ("position = peak.result.x[2]", "position = peak.result.x[1]"),
        ("error = peak", "error = 2 * peak"),
        ("position = peak.result.x[2]", "position = round(peak.result.x[2])"),
    ],
    "80_how_the_hessian_is_made": [
        ("(count, N)", "(1, N)"),
        (".mean().item()", ".mean().item() * 1.25"),
        (".double() * 2 - 1", ".double()"),
    ],
    "81_float32_and_float64": [
        ("return (x - goal).square().sum()", "return poor(x)"),
        ("return (x - goal).square().sum()", "return offset + (x - goal).square().sum()"),
        ("return (x - goal).square().sum()", "return x.square().sum()"),
    ],
}
"""By notebook: a piece of the solution, and what stands in its place."""
