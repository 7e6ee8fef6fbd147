"""The stages of a run that make weights or sample accuracies with them: train, sample, retrain."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from profiler.files import sha256_of
from profiler.pipeline import digest
from profiler.run_under_way import Report, Run
from profiler.shipped import weights_and_images
from profiler.subnet import SubnetRecord, read_subnet, write_subnet
from supernets.space import Architecture
from supernets.spaces import space as search_space

if TYPE_CHECKING:
    from supernets.training.loop import TrainProgress
    from supernets.training.machine import Machine
    from supernets.training.phases import Recipe


def find_weights(run: Run) -> None:
    """Find weights and images, given or shipped, before hours of measuring that could come to nothing.

    Raises:
        ValueError: there are no weights or images, weights, images or recipe do not fit the space, or there is no such training device.
        UnknownRecipeError: no recipe has that name.
        FileNotFoundError: the weights are not there.
    """
    _refuse_space_of_another_kind(run)
    machine(run)
    weights, run.images = weights_and_images(run.settings, run.space.name)
    if weights is not None:
        run.weights = weights
        run.weights_from = "weights that come with the package" if run.settings.weights is None else f"weights given: {weights}"
        _refuse_weights_of_another_space(run)
    elif run.system.trains:
        _refuse_recipe_of_another_kind(run)
    _refuse_images_of_another_kind(run)


def _refuse_space_of_another_kind(run: Run) -> None:
    """Do nothing where branches are chosen by the system that trains them, and it has some to choose."""
    from supernets.networks.branches import has_branches

    if has_branches(run.space) != run.system.branches:
        what = "has branches to choose, which only system 'repnas' does" if has_branches(run.space) else "has no branches for a system to choose"
        raise ValueError(f"space {run.space.name!r} {what}, and the run is of system {run.system.name!r}; give another --space or --system")


def _refuse_images_of_another_kind(run: Run) -> None:
    """Do nothing where the images fit the space; folders of images are decoded into their cache here, if they have one."""
    from supernets.training.data import open_images

    with _decoding_shown(run) as progress:
        data = open_images(run.images, progress=progress)
    blocks = run.space.blocks(run.space.smallest())
    wanted, given = (blocks[0].in_channels, blocks[-1].out_channels), (data.channels, data.classes)
    if wanted != given:
        raise ValueError(
            f"space {run.space.name!r} takes {wanted[0]} channels and tells {wanted[1]} classes, images {run.images!r} have {given[0]} and"
            f" {given[1]}; {_fitting_images(run, given)}"
        )


def _fitting_images(run: Run, given: tuple[int, int]) -> str:
    """Return what to do about images with other channels and classes than the space's."""
    settings = run.settings
    if settings.images is None:
        return "give images of your own with --images"
    if settings.weights is not None:
        return f"give the images that weights {settings.weights} were trained on"
    bare, _, text = run.space.name.partition(":")
    kept = [option for option in text.split(",") if option and option.partition("=")[0] not in ("image_channels", "classes")]
    options = ",".join([*kept, f"image_channels={given[0]}", f"classes={given[1]}"])
    weights = " and --train, as no weights come for that" if run.weights_from else ""
    return f"give a space for these images, --space {bare}:{options}{weights}"


@contextmanager
def _decoding_shown(run: Run) -> Iterator[Callable[[int, int], None]]:
    """Yield what is told how many images are decoded; the display has a stage of them, numbered 0, unless there are none to decode."""
    reports: list[Report] = []
    with ExitStack() as stack:

        def progress(done: int, total: int) -> None:
            if not reports:
                reports.append(stack.enter_context(run.display.stage(0, len(run.system.stages), "images")))
            reports[0](done, total, "decoding images")

        yield progress
        if reports:
            run.display.say(f"decoded: {run.images}")


def _refuse_recipe_of_another_kind(run: Run) -> None:
    from supernets.networks.branches import has_branches
    from supernets.training.recipes import recipe

    name = run.settings.size.recipe
    if (recipe(name).branches is not None) != has_branches(run.space):
        has, trains = ("has", "trains none") if has_branches(run.space) else ("has no", "trains some")
        raise ValueError(f"space {run.space.name!r} {has} branches to choose, recipe {name!r} {trains}; choose a recipe for this space")


def _refuse_weights_of_another_space(run: Run) -> None:
    from supernets.networks.checkpoint import supernet_metadata

    trained = supernet_metadata(run.weights).get("space")
    if trained != run.space.name:
        raise ValueError(f"weights {run.weights} are of space {trained!r}, the run is of {run.space.name!r}; give weights of the run's space")


def train_weights(run: Run, report: Report) -> str:
    """Train the supernet, where weights were neither given nor shipped; killed, the same goes on."""
    if run.weights_from:
        return f"{run.weights_from}; images: {run.images}"
    from supernets.training.data import open_images
    from supernets.training.loop import train
    from supernets.training.recipes import recipe

    own, whole = recipe(run.settings.size.recipe), search_space(run.space.name)
    summary = train(whole, open_images(run.images), own, run.folder / "training", run.settings.seed, 1, shown_in(report), machine=machine(run))
    run.weights = summary.weights
    return f"trained on {run.images} by recipe {own.name} in {summary.steps} steps"


def machine(run: Run) -> Machine:
    """Return on what the run trains.

    Raises:
        ValueError: there is no such device.
    """
    from supernets.training.machine import Machine

    device = run.settings.training_device
    return Machine(device, mixed_precision=device.startswith("cuda"))


def shown_in(report: Report) -> Callable[[TrainProgress], None]:
    """Return what tells a stage's display of a training's progress."""
    return lambda now: report(now.step, now.steps, f"{now.phase}: loss {now.loss:.3f}, {now.images_per_s:.0f} images/s")


def sample(run: Run, report: Report) -> str:
    """Measure the accuracies of random children."""
    from profiler.sampling import sample_into

    settings, numbers = run.settings, run.settings.numbers
    summary = sample_into(
        run.folder / "accuracies.db", run.weights, run.images, settings.samples or numbers.samples, settings.seed, settings.workers,
        numbers.calibration_images, numbers.validation_images, settings.resolutions, report, settings.training_device,
    )  # fmt: skip
    run.protocol = summary.summary.protocol
    return summary.sentence()


def retrain(run: Run, report: Report) -> str:
    """Train the chosen network alone, for longer than when it was compared with others, and tell its accuracy on test images."""
    from supernets.training.data import open_images
    from supernets.training.static import train_network

    record, recipe = read_subnet(run.subnet_file), full_recipe(run)
    folder = run.folder / "training" / digest(record.architecture.to_dict(), recipe.to_dict(), run.images)
    whole = search_space(run.space.name)
    images, seed = open_images(run.images), run.settings.seed
    trained = train_network(whole, record.architecture, images, recipe, folder, seed, 1, shown_in(report), machine=machine(run))
    run.weights = trained.weights
    if record.weights_sha256 != sha256_of(run.weights):
        run.log.begin("export")
        record = tested(run, record)
        write_subnet(run.subnet_file, record)
    accuracy = f"test accuracy {record.measured_accuracy:.2%} on {record.measured_accuracy_images} images"
    return f"trained alone by recipe {recipe.name}, {recipe.phases[0].epochs:g} epochs; {accuracy}"


def full_recipe(run: Run) -> Recipe:
    """Return how a network that is to be deployed is trained alone."""
    from supernets.training import static

    return static.small(run.settings.numbers.full_epochs) if run.settings.numbers.size == "tiny" else static.imagenet()


def proxy_recipe(run: Run) -> Recipe:
    """Return how networks are trained shortly, to be compared."""
    from supernets.training import static

    epochs = run.settings.numbers.proxy_epochs
    return static.small_proxy(epochs) if run.settings.numbers.size == "tiny" else static.imagenet_proxy(epochs)


def tested(run: Run, record: SubnetRecord) -> SubnetRecord:
    """Return the record with its architecture's accuracy on all test images, which nothing was chosen by."""
    (accuracy,), images = measured_accuracies(run, [record.architecture], "test", None)
    return record.changed(measured_accuracy=accuracy, measured_accuracy_images=images, weights_sha256=sha256_of(run.weights))


def measured_accuracies(run: Run, architectures: list[Architecture], part: str, judged_images: int | None) -> tuple[list[float], int]:
    """Return the accuracies of children on `part` of the images (None: all), their norms calibrated, and on how many images that is."""
    from profiler.sampling import accuracies_of
    from supernets.networks.branches import has_branches

    calibration_images, device = run.settings.numbers.calibration_images, run.settings.training_device
    if not has_branches(run.space):
        return accuracies_of(architectures, run.weights, run.images, part, calibration_images, judged_images, device)
    return _merged_accuracies(run, architectures, part, calibration_images, judged_images)


def _merged_accuracies(
    run: Run, architectures: list[Architecture], part: str, calibration_images: int, judged_images: int | None
) -> tuple[list[float], int]:  # fmt: skip
    """Return the same of networks with branches: those are merged, so that no two of them share what they compute first."""
    from profiler.accuracy import JUDGED_SEED
    from supernets.networks.checkpoint import load_supernet
    from supernets.training.data import drawn, open_images, picked
    from supernets.training.validation import accuracy

    data, own = open_images(run.images), machine(run)
    tensors = {name: own.put(tensor) for name, tensor in load_supernet(run.weights).tensors().items()}
    labels = getattr(data, f"{part}_labels")
    judged = drawn(len(labels), len(labels) if judged_images is None else judged_images, JUDGED_SEED)
    pixels = picked(getattr(data, f"{part}_images"), judged)
    calibration, space = data.calibration_images(calibration_images), search_space(run.space.name)
    with own.judging():
        return [accuracy(space, tensors, a, pixels, labels[judged], calibration) for a in architectures], len(judged)
