# ruff: noqa: E402  (torch may be missing: the imports below it need it)
import itertools
from collections import Counter

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from supernets import spaces
from supernets.networks import prefix_tree, shared_evaluation
from supernets.networks.calibration import calibrate
from supernets.networks.functional import channels_last, fold, forward, no_norm
from supernets.networks.shared_evaluation import EvaluationImages, SharedEvaluation
from supernets.networks.slicing import child_tensors
from supernets.networks.supernet import Supernet

pytestmark = pytest.mark.torch

JUDGED = (12, 8)  # images a batch
CALIBRATION = (16, 10)
TIE = 3e-4  # logits closer than this may come in another order when they are computed in another way


def images_at(seed, counts):
    def batches(side):
        generator = torch.Generator().manual_seed(seed + side)
        return [torch.randn(count, 1, side, side, generator=generator) for count in counts]

    return batches


@pytest.fixture(scope="module")
def space():
    return spaces.space("ofa-mobilenetv3-tiny").restrict({"resolution": [20, 24]})


@pytest.fixture(scope="module")
def tensors(space):
    """A supernet's tensors in general position: no norm is neutral, no kernel matrix the identity."""
    generator = torch.Generator().manual_seed(3)
    return {
        name: tensor.detach() * (1 + 0.2 * torch.randn(tensor.shape, generator=generator)) + 0.05 * torch.randn(tensor.shape, generator=generator)
        for name, tensor in Supernet(spaces.space(space.name), seed=2).tensors().items()
    }


@pytest.fixture(scope="module")
def images():
    labels = torch.randint(0, 10, (sum(JUDGED),), generator=torch.Generator().manual_seed(9))
    return EvaluationImages(images_at(100, CALIBRATION), images_at(200, JUDGED), labels)


@pytest.fixture(scope="module")
def architectures(space):
    """Relatives of two random architectures and some strangers: paths part at many depths."""
    rng = np.random.default_rng(4)
    parents = space.sample_different(2, rng)
    relatives = space.mutate_population(np.repeat(parents, 5, axis=0), rng, {"kernel_size": 0.1, "expand_ratio": 0.1})
    return space.decode(np.concatenate([parents, relatives, space.sample_different(4, rng)]))


@pytest.fixture(scope="module")
def logits(space, tensors, images, architectures):
    return dict(SharedEvaluation(space, tensors, images).logits(architectures))


def plain(space, tensors, images, architecture):
    """The unshared way, as one would write it: channels first, norms not folded."""
    blocks = space.blocks(architecture)
    child = child_tensors(blocks, tensors)
    calibrated = {**child, **calibrate(blocks, child, images.calibration_at(blocks[0].input_side))}
    with torch.no_grad():
        return torch.cat([forward(blocks, batch, calibrated) for batch in images.judged_at(blocks[0].input_side)])


def test_every_different_architecture_comes_once_in_tree_order(space, architectures, logits):
    assert list(logits) == prefix_tree.in_tree_order(space, architectures)
    assert set(logits) == set(architectures)


def test_sharing_changes_no_bit_of_calibrating_folding_and_running_a_child_alone(space, tensors, images, logits):
    for architecture, shared in logits.items():
        blocks = space.blocks(architecture)
        side, child = blocks[0].input_side, child_tensors(blocks, tensors)
        folded = fold({**child, **calibrate(blocks, child, map(channels_last, images.calibration_at(side)))}, blocks)
        with torch.no_grad():
            alone = torch.cat([forward(blocks, channels_last(batch), folded, no_norm) for batch in images.judged_at(side)])
        assert torch.equal(shared, alone), f"differs by {float((shared - alone).abs().max())}"


def test_accuracies_are_those_of_the_plain_way_but_for_ties(space, tensors, images, architectures, logits):
    for architecture, hits in SharedEvaluation(space, tensors, images).hits(architectures[::3]):
        expected = plain(space, tensors, images, architecture)
        torch.testing.assert_close(logits[architecture], expected, atol=TIE, rtol=0)
        best, second = expected.topk(2).values.T
        clear = (best - second > TIE).numpy()
        assert clear.mean() >= 0.8  # ties are rare even here, with weights that were never trained
        assert np.array_equal(hits[clear], (expected.argmax(1) == images.labels).numpy()[clear])


def test_result_does_not_depend_on_what_it_is_evaluated_with(space, tensors, images, architectures, logits):
    evaluation = SharedEvaluation(space, tensors, images)
    for part in (architectures[:3], architectures[5:6], architectures[2:9][::-1]):
        for architecture, alone in evaluation.logits(part):
            assert torch.equal(alone, logits[architecture])


def test_steps_that_children_share_are_run_once(space, tensors, images, architectures, monkeypatch):
    runs = Counter()
    run_block = shared_evaluation.run_block
    monkeypatch.setattr(shared_evaluation, "run_block", lambda block, x, operations: runs.update([block.name]) or run_block(block, x, operations))
    list(SharedEvaluation(space, tensors, images).logits(architectures))
    beginnings = {path[: depth + 1] for path in (prefix_tree.path(space, a) for a in architectures) for depth in range(len(path))}
    for name in ("stem", "stage1.block1", "stage2.block0", "final_expand"):
        different = sum(beginning[-1][0] == name for beginning in beginnings)
        assert runs[name] == different * (len(CALIBRATION) + len(JUDGED))
    assert runs["classifier"] == len(set(architectures)) * len(JUDGED), "behind the last norm there is nothing to calibrate"


def test_no_input_is_written_to(space, tensors, images, architectures):
    own = {side: [batches(side) for batches in (images.calibration_at, images.judged_at)] for side in (20, 24)}
    kept = EvaluationImages(lambda side: own[side][0], lambda side: own[side][1], images.labels)
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    list(SharedEvaluation(space, tensors, kept).hits(architectures))
    assert all(torch.equal(tensors[name], tensor) for name, tensor in before.items())
    for side, (calibration, judged) in own.items():
        for batches, again in ((calibration, images.calibration_at(side)), (judged, images.judged_at(side))):
            assert all(map(torch.equal, batches, again))


def test_nothing_to_evaluate_yields_nothing(space, tensors, images):
    assert list(SharedEvaluation(space, tensors, images).hits([])) == []


def test_labels_that_do_not_fit_the_images_are_refused(space, tensors, images, architectures):
    fewer = EvaluationImages(images.calibration_at, images.judged_at, images.labels[1:])
    with pytest.raises(ValueError, match="19 labels for 20 judged images"):
        next(SharedEvaluation(space, tensors, fewer).hits(architectures))


def test_absent_images_are_refused_with_their_side(space, tensors, images):
    none = EvaluationImages(lambda side: [], images.judged_at, images.labels)
    with pytest.raises(ValueError, match="no calibration images of side 20"):
        next(SharedEvaluation(space, tensors, none).logits([space.smallest()]))
    unjudged = EvaluationImages(images.calibration_at, lambda side: [], images.labels)
    with pytest.raises(ValueError, match="no judged images of side 20"):
        next(SharedEvaluation(space, tensors, unjudged).logits([space.smallest()]))


def test_a_child_alone_at_its_resolution_never_has_two_batches_in_memory(space, tensors, images, logits, monkeypatch):
    steps = []

    def made(batches_at):
        return lambda side: (steps.append("made") or batch for batch in batches_at(side))

    run_block = shared_evaluation.run_block
    monkeypatch.setattr(
        shared_evaluation, "run_block", lambda block, x, operations: (block.name == "stem" and steps.append("run")) or run_block(block, x, operations)
    )
    one_by_one = EvaluationImages(made(images.calibration_at), made(images.judged_at), images.labels)
    alone = {a["resolution"]: a for a in logits}  # one of each side
    for architecture, found in SharedEvaluation(space, tensors, one_by_one).logits(alone.values()):
        assert torch.equal(found, logits[architecture])
    assert steps == ["made", "run"] * len(alone) * (len(CALIBRATION) + len(JUDGED))


@pytest.mark.parametrize("shape", [(4, 1, 6, 6), (4, 3, 6, 6), (8, 5, 1, 1)])
def test_channels_last_is_so_by_its_strides_too(shape):
    x = torch.randn(shape)
    y = channels_last(x)
    _, c, h, w = shape
    assert torch.equal(x, y)
    assert y.stride() == (c * h * w, 1, c * w, c)


def test_equal_blocks_at_different_places_are_different_steps(space):
    steps = prefix_tree.path(space, space.largest())
    places = {name: block for name, block in steps}
    assert places["stage2.block1"] == places["stage2.block2"]
    assert len(set(steps)) == len(steps)


def test_tree_order_does_not_depend_on_the_order_given(space, architectures):
    ordered = prefix_tree.in_tree_order(space, architectures)
    assert prefix_tree.in_tree_order(space, architectures[::-1] + architectures[:4]) == ordered


def test_tree_order_keeps_every_common_beginning_together(space):
    ordered = prefix_tree.in_tree_order(space, space.decode(space.sample_different(300, np.random.default_rng(0))))
    paths = [prefix_tree.path(space, architecture) for architecture in ordered]
    for depth in range(1, 8):
        beginnings = [path[:depth] for path in paths]
        changes = sum(a != b for a, b in itertools.pairwise(beginnings))
        assert changes == len(set(beginnings)) - 1


def test_shared_steps_count_the_common_beginning_with_the_next_path():
    a, b, c, d = "a", "b", "c", "d"
    assert prefix_tree.shared_steps([(a, b, c), (a, b, d), (a, c), (a, c, d), (b,)]) == [2, 1, 2, 0, 0]
    assert prefix_tree.shared_steps([(a, b)]) == [0]
    assert prefix_tree.shared_steps([]) == []


def test_branch_depths_are_where_later_paths_leave():
    shared = [3, 2, 4, 1, 0, 5, 0]
    assert prefix_tree.branch_depths(shared, 0, 0) == {3, 2, 1}
    assert prefix_tree.branch_depths(shared, 2, 2) == {4}
    assert prefix_tree.branch_depths(shared, 4, 1) == set()


@pytest.mark.parametrize("count,size", [(1, 5), (5, 5), (200, 16), (200, 1), (7, 2), (200, 1000)])
def test_pieces_cover_everything_in_order_and_are_near_their_size(space, count, size):
    ordered = prefix_tree.in_tree_order(space, space.decode(space.sample_different(count, np.random.default_rng(1))))
    paths = [prefix_tree.path(space, architecture) for architecture in ordered]
    slices = list(prefix_tree.pieces(paths, size))
    assert [path for piece in slices for path in paths[piece]] == paths
    assert all(1 <= piece.stop - piece.start <= 1.5 * size for piece in slices)
    assert all(piece.stop - piece.start >= size // 2 for piece in slices[:-1])


def test_pieces_are_cut_where_neighbours_share_least():
    paths = [("a", "a", str(i)) for i in range(6)] + [("b", "b", str(i)) for i in range(10)]
    assert next(iter(prefix_tree.pieces(paths, 8))) == slice(0, 6)


@pytest.mark.parametrize("name", ["bignas-tiny", "ofa-resnet50-tiny", "ofa-proxyless-tiny"])
def test_children_of_other_families_are_evaluated_as_the_plain_way_does(name, images):
    """With projections, gates and sums that are activated, over what earlier children left in place."""
    family = spaces.space(name).restrict({"resolution": (20,)})
    shared = Supernet(spaces.space(name), kernel_transform=False, seed=2).tensors()
    architectures = family.decode(family.sample_different(6, np.random.default_rng(5)))
    found = dict(SharedEvaluation(family, shared, images).logits(architectures))
    for architecture in architectures:
        expected = plain(family, {key: tensor.detach() for key, tensor in shared.items()}, images, architecture)
        torch.testing.assert_close(found[architecture], expected, atol=TIE * max(1.0, float(expected.abs().max())), rtol=0)


def test_less_memory_for_what_children_share_changes_no_bit(space, tensors, images, architectures, logits, monkeypatch):
    held, run, most = [], Counter(), 24 * 1024
    run_block = shared_evaluation.run_block
    monkeypatch.setattr(shared_evaluation, "run_block", lambda block, x, operations: run.update([block.name]) or run_block(block, x, operations))
    fitting = SharedEvaluation._fitting

    def noted(self, path, depths, kept):
        chosen = fitting(self, path, depths, kept)
        held.append((sum(4 * path[d - 1][1].out_channels * path[d - 1][1].output_side ** 2 for d in {*chosen, *kept}), len(depths - chosen)))
        return chosen

    monkeypatch.setattr(SharedEvaluation, "_fitting", noted)
    for allowed in (0, most):
        held.clear()
        for architecture, alone in SharedEvaluation(space, tensors, images, allowed).logits(architectures):
            assert torch.equal(alone, logits[architecture])
        assert max(each for each, _ in held) <= allowed and any(dropped for _, dropped in held)
        if not allowed:
            assert run["stem"] == len(set(architectures)) * (len(CALIBRATION) + len(JUDGED)), "nothing was shared"
    assert max(each for each, _ in held) > 0, "something was"


def test_everything_is_computed_where_the_tensors_are(space, tensors, images, architectures, monkeypatch):
    """On torch's meta device, which has shapes without numbers: what stayed on another device could not be computed with."""
    monkeypatch.setattr(torch, "batch_norm_update_stats", lambda x, *others: (x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)))
    elsewhere = {name: tensor.to("meta") for name, tensor in tensors.items()}
    found = dict(SharedEvaluation(space, elsewhere, images).logits(architectures))
    assert {(each.device.type, each.shape[0]) for each in found.values()} == {("meta", len(images.labels))}


def test_hits_are_told_on_the_cpu_wherever_logits_are(space, tensors, images, architectures, monkeypatch):
    class Elsewhere(torch.Tensor):
        """A tensor that takes no part in a computation with one of another device."""

        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            if any(type(each) is torch.Tensor for each in args):
                raise RuntimeError("tensors of two devices")
            found = super().__torch_function__(function, types, args, kwargs or {})
            return found.as_subclass(torch.Tensor) if function is torch.Tensor.cpu else found

    evaluation = SharedEvaluation(space, tensors, images)
    plain = dict(evaluation.hits(architectures[:2]))
    own = evaluation.logits
    monkeypatch.setattr(evaluation, "logits", lambda some: ((a, each.as_subclass(Elsewhere)) for a, each in own(some)))
    for architecture, hits in evaluation.hits(architectures[:2]):
        assert np.array_equal(hits, plain[architecture])
