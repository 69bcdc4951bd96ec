"""Wrong answers, three for each exercise: changes of the reference solution that must not pass."""

from __future__ import annotations

__all__ = ["WRONG"]

WRONG: dict[str, list[tuple[str, str]]] = {
    "03_reading_the_dashboard": [
        ("factor * largest", "1e-3"),
        ("factor * largest", "1e-6"),
        ("return iteration.trust_radius < factor * largest", "return False"),
    ],
    "04_choosing_a_method": [
        ("row[method] <= tau * least", "row[method] < tau * least"),
        ("bool(np.isfinite(row[method]) and row[method] <= tau * least)", "row[method] <= tau * least"),
        ("solved / len(costs)", "solved / max(1, sum(min(row.values()) < np.inf for row in costs.values()))"),
    ],
    "10_gradient_free": [
        ("2 * sigma / curvature", "sigma / curvature"),
        ("(2 * sigma / curvature) ** 0.5", "1e-8"),
        ("(2 * sigma / curvature) ** 0.5", "0.0676"),
    ],
    "11_nelder_mead": [
        ("if run.fun > best.fun - 1e-6:", "if True:"),
        ("fun, best.x, ", "fun, x, "),
        ("best.fun - 1e-6", "best.fun - 1e-1"),
    ],
    "12_powell": [
        (".eigenvectors.T.numpy()", ".eigenvectors.numpy()"),
        ("torch.linalg.eigh(hessian).eigenvectors.T.numpy()", "np.eye(len(x))"),
        ("torch.linalg.eigh(hessian).eigenvectors.T.numpy()", "hessian.numpy()"),
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
    "20_first_order": [
        ("4 / (smallest * (root + 1) ** 2)", "4 / (root + 1) ** 2"),
        ("momentum=((root - 1) / (root + 1)) ** 2", "momentum=0.9"),
        ("momentum=((root - 1) / (root + 1)) ** 2", "momentum=(root - 1) / (root + 1)"),
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
    "32_l_bfgs_b": [
        ("lam * (u + v).sum()", "0 * (u + v).sum()"),
        ("ftol=0, gtol=1e-8", "ftol=1e-3"),
        ("lam * (u + v).sum()", "lam * (u.square() + v.square()).sum()"),
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
    "46_tnc": [
        ("- start).double() / epsilon", "- start).double() / (2 * epsilon)"),
        ("point.to(dtype), vector.to(dtype)", "point, vector"),
        ("for epsilon in EPSILONS:", "for epsilon in EPSILONS[::-1]:"),
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
    "60_global_search": [
        ("if all(np.linalg.norm(end - known) > 0.01 for known in distinct):", "if True:"),
        ("distinct.append(end)", "distinct.append(start)"),
        ("> 0.01", "> 10.0"),
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
    "63_differential_evolution": [
        ("rng.permutation(size)", "np.arange(size)"),
        ("rng.permutation(size)", "rng.integers(0, size, size)"),
        ("+ rng.random((size, n))", "+ 0.5"),
    ],
    "64_shgo_direct_brute": [
        ("/ (2 * half_spacing)", "/ half_spacing"),
        ("/ (2 * half_spacing)", "/ (4 * half_spacing)"),
        ("2 * per_coordinate", "per_coordinate"),
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
    "82_when_things_go_wrong": [
        ("w.square().sum()", "(w.detach() * w).sum()"),
        ("mse(w) + decay", "mse(w) + 2 * decay"),
        ("return loss", "return 2 * loss"),
    ],
    "90_pinn": [
        ("+ c * forward", "+ 0 * forward"),
        ("-laplacian", "laplacian"),
        ("max_iter=60", "max_iter=3"),
    ],
    "93_inverse_problem": [
        ("small.numel() * level**2:", "2 * small.numel() * level**2:"),
        ("low = lam", "high = lam"),
        ("maxiter=200", "maxiter=2"),
    ],
    "94_gaussian_process": [
        ("24, bounds", "1, bounds"),
        ("period * relative", "relative"),
        ('.standard_errors()["theta"][1].item()', ".matrix[1, 1]"),
    ],
    "91_hessian_spectrum": [
        ("2 / highest", "1 / highest"),
        (".values[-1]", ".values[0]"),
        ("2 / highest", "2 / highest**0.5"),
    ],
    "92_laplace": [
        ("2 * s**2 / m", "2 * s**2"),
        ("2 * decay / scale", "decay"),
        ("2 * decay / scale", "decay / scale"),
    ],
    "95_full_batch_and_torchrun": [
        ('batch[1], reduction="sum")', "batch[1])"),
        ('    reduction="sum",\n', ""),
        ("extra=lambda: 0.5 *", "extra=lambda: count * 0.5 *"),
    ],
    "96_why_did_it_stop": [
        ("rule = report.rule", "rule = report.findings[1].rule"),
        ("lowest = run.wait().fun", "run.wait()\nlowest = report.trials[0].before"),
        ("run = report.rescue(most=1)", "run = optimizer.start(my_closure)"),
    ],
}
"""By notebook: a piece of the solution, and what stands in its place."""
