"""The stages of a run that decide: fit what predicts, search, measure the finalists, choose one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from luts.store import MeasurementStore
from predictors import accuracy, latency
from profiler.evaluating import Asked, AskedLatency, CalibratedChildren
from profiler.files import sha256_of, write_json
from profiler.fitting import SELECTION_FILE, best_accuracy, fit_accuracy, sampled_accuracies
from profiler.latency_fitting import fit_latency
from profiler.measuring.session import condition_of
from profiler.pipeline import digest
from profiler.run_under_way import Report, Run
from profiler.searching import AccuracySource, NoneKeptError, Predictors, best_kept, demoted, finalists_of, search_subnet, with_measured_latencies
from profiler.subnet import SubnetRecord, finalist_accuracy, finalist_latency_ms, read_subnet, record_of, write_subnet
from profiler.systems import ACCURACY_WORDS, CHILDREN, PREDICTED, PROXY, TRAINING
from profiler.weight_stages import measured_accuracies, proxy_recipe, tested
from search.driver import refuse_unreachable
from supernets.spaces import space as search_space

MOST_SEARCHES = 4  # each with a larger safety margin, until a measured finalist keeps the budget
MARGIN_STEP = 0.02


def fit_latencies(run: Run) -> None:
    """Fit the latency predictors to the tables; refuse a budget that no network keeps, which the search tells too, but after what can take hours.

    Raises:
        BudgetError: no network keeps it.
    """
    inputs = digest(run.space.name, run.table_digests())
    if not run.log.finished("collect", inputs, *(run.latency_predictor(runtime) for runtime in run.runtimes)):
        run.log.begin("collect")
        for runtime in run.runtimes:
            fit_latency(run.space, run.table(runtime), run.latency_predictor(runtime))
        run.log.finish("collect", inputs)
    asked_ms, own = run.settings.max_latency_ms, run.system
    if asked_ms is not None and own.strategy and run.settings.latency == "lut":
        fitted = latency.load(run.latency_predictor(run.runtimes[0]), run.space)
        refuse_unreachable(run.space, fitted.predict, asked_ms, own.objective, run.settings.seed)


def fit(run: Run, report: Report) -> str:
    """Fit accuracy predictors where subnets were sampled; those of latency are there, and their error is told where there is nothing else to fit."""
    told = _fit_accuracies(run, report) if run.system.accuracy == PREDICTED else _latency_error(run)
    _write_facts(run)
    return told


def _fit_accuracies(run: Run, report: Report) -> str:
    protocol = None if run.protocol is None else run.protocol.to_dict()
    _, sampled = sampled_accuracies(run.folder / "accuracies.db", run.protocol)
    inputs = digest(run.space.name, sampled.population.tolist(), sampled.accuracies.tolist(), protocol, run.settings.seed)
    folder = run.folder / "predictors"
    if not run.log.finished("fit", inputs, folder / SELECTION_FILE):
        run.log.begin("fit")
        fit_accuracy(run.folder / "accuracies.db", folder, run.settings.seed, report, protocol=run.protocol)
        run.log.finish("fit", inputs)
    run.chosen_accuracy, quality = best_accuracy(folder)
    figures = f"RMSE {quality.rmse_points:.2f} points, Kendall {quality.kendall:.2f} on {quality.test_count} subnets held out"
    return f"accuracy predictor {run.chosen_accuracy}, chosen by cross-validation: {figures}"


def _latency_error(run: Run) -> str:
    fitted = latency.load(run.latency_predictor(run.runtimes[0]), run.space)
    error = "" if fitted.quality is None else f": {fitted.quality.mape_percent:.1f} % off on {fitted.quality.held_out_count} networks held out"
    return f"latency predictor {fitted.name}{error}"


def _write_facts(run: Run) -> None:
    """Write what the report says of the run itself."""
    own, settings = run.system, run.settings
    write_json(run.folder / "run.json", {
        "table": run.table(run.runtimes[0]).name, "accuracy_predictor": run.chosen_accuracy or None, "system": own.name, "title": own.title,
        "space": run.space.name, "accuracy": ACCURACY_WORDS[own.accuracy], "objective": own.objective or None, "strategy": own.strategy or None,
        "recipe": settings.size.recipe if own.trains and not run.weights_from else None, "images": run.images, "weights_from": run.weights_from,
    })  # fmt: skip


@contextmanager
def _predictors(run: Run, report: Report) -> Iterator[Predictors]:
    """Yield what the search asks for accuracies and latencies, and end what that started."""
    fitted = latency.load(run.latency_predictor(run.runtimes[0]), run.space)
    with ExitStack() as stack:
        accuracies, accuracy_is = _accuracies(run, report, stack)
        if run.settings.latency == "lut":
            yield Predictors(run.space, accuracies, fitted, accuracy_is)
            return
        from profiler.live_latency import LiveLatencies

        agent, store = stack.enter_context(run.agent(run.runtimes[0])), stack.enter_context(MeasurementStore(run.folder / "searched.lut"))
        live = LiveLatencies(search_space(run.space.name), agent, store, progress=lambda done, total: report(done, total, "visits"))
        measured = AskedLatency(live, condition_of(agent.info()))
        yield Predictors(run.space, accuracies, measured, accuracy_is, "measured", quick=fitted)


def _accuracies(run: Run, report: Report, stack: ExitStack) -> tuple[AccuracySource, str]:
    """Return what the search asks for accuracies, and what they are: predicted, measured, or of short trainings."""
    settings, numbers = run.settings, run.settings.numbers
    if run.system.accuracy == PREDICTED:
        return accuracy.load(run.folder / "predictors" / run.chosen_accuracy, run.space), "predicted"
    store = stack.enter_context(MeasurementStore(run.folder / "accuracies.db"))
    stack.callback(store.finish)
    if run.system.accuracy == CHILDREN:
        images = (run.images, numbers.calibration_images, numbers.validation_images)
        return CalibratedChildren(run.space, run.weights, *images, store, settings.workers, settings.training_device), "measured"
    from profiler.proxy_training import ProxyAccuracies

    trained = ProxyAccuracies(
        search_space(run.space.name), run.images, store, proxy_recipe(run), seed=settings.seed, validation_images=numbers.validation_images,
        calibration_images=numbers.calibration_images, workers=settings.workers, folder=run.folder / "training" / "proxy",
        progress=lambda done, total: report(done, total, "networks of this generation trained"), device=settings.training_device,
    )  # fmt: skip
    return Asked(stack.enter_context(trained)), "proxy"


def _searched(run: Run, safety_margin: float, report: Report) -> SubnetRecord:
    settings, own = run.settings.search_settings, run.system
    asked_ms = run.settings.max_latency_ms
    with _predictors(run, report) as predictors:
        budget_ms = predictors.median_latency_ms(run.settings.seed) if asked_ms is None else asked_ms
        record, result = search_subnet(
            predictors, budget_ms, own.strategy, settings, run.settings.seed,
            lambda point: report(point.generation, settings.generations, f"{point.accuracy:.2%} at {point.latency_ms:.3f} ms"), safety_margin,
            own.objective,
        )  # fmt: skip
    write_json(run.folder / "search.json", result.to_dict())
    return record.changed(finalists=record.finalists[: run.settings.numbers.finalists])


def search(run: Run, report: Report) -> str:
    """Search for the best network by the system's objective and strategy."""
    own, settings = run.system, run.settings
    trained = sha256_of(run.weights) if own.accuracy == CHILDREN else proxy_recipe(run).to_dict() if own.accuracy == PROXY else None
    inputs = digest(
        run.log.digests["collect"], run.log.digests.get("fit"), settings.max_latency_ms, settings.search_settings.to_dict(), settings.seed,
        *([] if own.accuracy == PREDICTED else [own.name, trained, run.images]),
        *([] if (own.strategy, own.objective) == ("evolution", "budget") else [own.strategy, own.objective]),
        *([] if settings.latency == "lut" else [settings.latency]),
    )  # fmt: skip
    searched = run.folder / "searched.json"
    if not run.log.finished("search", inputs, searched, run.folder / "search.json"):
        run.log.begin("search")
        write_subnet(searched, _searched(run, 0.0, report))
        run.log.finish("search", inputs)
    record = read_subnet(searched)
    facts, best = record.search or {}, record.finalists[0]
    aim, what = ("budget", "miss it") if facts["objective"] == "budget" else ("target", "are above it")
    words = {"predicted": "predicted", "measured": "validation accuracy", "proxy": "accuracy after a short training"}[facts["accuracy_is"]]
    return (
        f"{words} {finalist_accuracy(best):.2%} at {finalist_latency_ms(best):.3f} ms, {aim} {facts['latency_ms']:.3f} ms "
        f"({facts['random_networks_over_budget']:.0%} of random networks {what}); {facts['evaluations']} networks scored by {own.strategy}"
    )


def choose(run: Run, report: Report) -> str:
    """Measure the finalists, latency and accuracy, and take the best that keeps the budget; search again if none does."""
    trained = sha256_of(run.weights) if run.system.trains else None
    inputs = digest(run.log.digests.get("search", run.log.digests["collect"]), trained)
    if not run.log.finished("choose", inputs, run.subnet_file):
        run.log.begin("choose")
        write_subnet(run.subnet_file, _chosen(run, inputs, report) if run.system.strategy else _learned(run, inputs, report))
        run.log.finish("choose", inputs)
    record = read_subnet(run.subnet_file)
    images = record.measured_accuracy_images
    accuracy = f"test accuracy {record.measured_accuracy:.2%} on {images} images" if images else "its accuracy is that of a short training so far"
    return f"{record.device_origin} {record.measured_latency_ms:.3f} ms; {accuracy}"


def _chosen(run: Run, session: str, report: Report) -> SubnetRecord:
    record = read_subnet(run.folder / "searched.json")
    for attempt in range(1, MOST_SEARCHES + 1):
        with run.agent(run.runtimes[0]) as agent:
            record = with_measured_latencies(record, agent, run.folder / "finalists.lut", report, f"{session}.{attempt}")
        try:
            best_kept(record)
        except NoneKeptError as error:
            margin = MARGIN_STEP * attempt
            if attempt == MOST_SEARCHES:
                searches = f"{attempt} searches, the last with a safety margin of {margin - MARGIN_STEP:.0%}, found no network that the device"
                raise NoneKeptError(f"{searches} confirms: {error.what}; raise the budget with --max-latency-ms") from None
            record = _searched(run, margin, report)
        else:
            break
    if run.system.accuracy == PROXY:  # no weights are left of those short trainings; the chosen one is trained anew
        return best_kept(record)
    accuracies, _ = measured_accuracies(run, list(finalists_of(record)), "validation", run.settings.numbers.validation_images)
    finalists = tuple({**f, "measured_accuracy": measured} for f, measured in zip(record.finalists, accuracies, strict=True))
    return tested(run, best_kept(record.changed(finalists=finalists)))


def _learned(run: Run, session: str, report: Report) -> SubnetRecord:
    """Return the record of the network that training itself arrived at, its latency measured.

    Raises:
        ValueError: the weights do not tell which network that is.
    """
    from supernets.networks.checkpoint import supernet_metadata

    history = supernet_metadata(run.weights).get("history")
    last = history[-1] if isinstance(history, list) and history else None
    if not (isinstance(last, dict) and isinstance(last.get("architecture"), dict)):
        raise ValueError(f"weights {run.weights} do not say which branches training chose; give weights that a recipe for branches trained")
    architecture = run.space.architecture(last["architecture"])
    fitted = latency.load(run.latency_predictor(run.runtimes[0]), run.space)
    predicted_ms = float(fitted.predict(run.space.encode([architecture]))[0])
    (accuracy,), _ = measured_accuracies(run, [architecture], "validation", run.settings.numbers.validation_images)
    finalist = {"architecture": architecture.to_dict(), "predicted_latency_ms": predicted_ms, "measured_accuracy": accuracy}
    condition = None if fitted.condition is None else fitted.condition.to_dict()
    record = record_of(architecture, max_latency_ms=run.settings.max_latency_ms, condition=condition, finalists=(finalist,))
    with run.agent(run.runtimes[0]) as agent:
        record = with_measured_latencies(record, agent, run.folder / "finalists.lut", report, session)
    try:
        return tested(run, best_kept(record))
    except NoneKeptError as error:
        raise NoneKeptError(error.what, "branches change no latency: raise the budget, or give --space with a smaller skeleton") from None


def next_finalist(run: Run, record: SubnetRecord) -> SubnetRecord | None:
    """Return the record of the best finalist left after this one missed the budget; None if it kept it, or none is left.

    None too where weights are the chosen network's own: another one would have to be trained first.
    """
    first = record.verifications[0]
    if first.kept is not False or run.system.accuracy in (PROXY, TRAINING):
        return None
    try:
        return tested(run, best_kept(demoted(record, first.measured_latency_ms)).changed(models=(), verifications=()))
    except NoneKeptError:
        return None
