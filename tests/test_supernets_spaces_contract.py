"""Every space of the four systems keeps the contract of a space."""

from __future__ import annotations

import numpy as np
import pytest
from contracts import SpaceContract

from supernets.space import SearchSpace
from supernets.spaces import space as space_of_name

Values = tuple[int | float | str, ...]


def all_fixed_but(name: str, **free: Values) -> dict[str, Values]:
    """Restrict a space to the second value of every choice, and those named (dots as double underscores) to the values given."""
    wanted = {key.replace("__", "."): values for key, values in free.items()}
    return {choice.name: wanted.get(choice.name, choice.values[:2][-1:]) for choice in space_of_name(name).choices}


class TestOfaProxylessWidth13(SpaceContract):
    name = "ofa-proxyless-w1.3"
    small = all_fixed_but(name, resolution=(128, 224), stage1__depth=(2, 4), stage1__block2__kernel_size=(3, 7), stage6__block0__expand_ratio=(3, 6))


class TestOfaProxylessWidth10(SpaceContract):
    name = "ofa-proxyless-w1.0"
    small = all_fixed_but(name, resolution=(160,), stage5__depth=(2, 3, 4), stage5__block3__kernel_size=(3, 7), stage5__block1__expand_ratio=(3, 6))


class TestOfaProxylessTiny(SpaceContract):
    name = "ofa-proxyless-tiny"
    small = all_fixed_but(name, resolution=(20, 32), stage1__depth=(2, 4), stage1__block2__kernel_size=(3, 7), stage4__block0__expand_ratio=(3, 6))


class TestOfaResNet50(SpaceContract):
    name = "ofa-resnet50"
    small = all_fixed_but(
        name, resolution=(128, 148), stem__inner_width=(24, 32), stem__middle=(0, 1), stem__width=(40, 64), stage1__width=(168, 256),
        stage2__extra_depth=(0, 2), stage2__block3__expand_ratio=(0.2, 0.35), stage2__block0__expand_ratio=(0.2, 0.25),
    )  # fmt: skip


class TestOfaResNet50Tiny(SpaceContract):
    name = "ofa-resnet50-tiny"
    small = all_fixed_but(name, resolution=(20, 28), stem__middle=(0, 1), stage1__width=(40, 64), stage2__extra_depth=(0, 1, 2),
                          stage2__block1__expand_ratio=(0.2, 0.35))  # fmt: skip


class TestOfaResNet50TinyHalfAsWide(SpaceContract):
    name = "ofa-resnet50-tiny-w0.5"
    small = all_fixed_but(name, resolution=(20, 28), stem__middle=(0, 1), stage2__width=(40, 64), stage3__extra_depth=(0, 1, 2),
                          stage3__block1__expand_ratio=(0.2, 0.35))  # fmt: skip

    def test_widths_are_half_of_those_of_the_tiny_space_in_multiples_of_8(self) -> None:
        widths = {choice.name: choice.values for choice in space_of_name(self.name).choices if choice.kind == "width"}
        assert widths == {"stem.width": (16, 24), "stage1.width": (24, 32), "stage2.width": (40, 48, 64), "stage3.width": (80, 104, 128)}


class TestBigNas(SpaceContract):
    name = "bignas"
    small = all_fixed_but(name, resolution=(192, 320), stem__width=(32, 40), stage2__width=(24, 32), stage3__depth=(2, 3), stage3__kernel_size=(3, 5),
                          stage7__depth=(1, 2), head__width=(1280, 1408))  # fmt: skip


class TestBigNasWithAKernelALayer(SpaceContract):
    name = "bignas:kernels=layer"
    small = all_fixed_but(name, stage1__depth=(1, 2), stage4__depth=(2, 3, 4), stage4__block0__kernel_size=(3, 5), stage4__block3__kernel_size=(3, 5))


class TestBigNasWithIdentityShortcuts(SpaceContract):
    name = "bignas:shortcuts=identity"
    small = all_fixed_but(name, stage1__width=(16, 24), stage2__width=(24, 32), stage5__depth=(2, 6))


class TestBigNasTiny(SpaceContract):
    name = "bignas-tiny"
    small = all_fixed_but(
        name, resolution=(20, 32), stage1__width=(16, 24), stage2__width=(24, 32), stage3__depth=(1, 2, 3), stage3__kernel_size=(3, 5)
    )


class TestAttentiveNas(SpaceContract):
    name = "attentivenas"
    small = all_fixed_but(
        name, resolution=(192, 256), stage2__expand_ratio=(4, 6), stage2__depth=(3, 5), stage6__width=(192, 216), head__width=(1792, 1984)
    )


class TestMnasNet(SpaceContract):
    name = "mnasnet"
    small = all_fixed_but(
        name, stage1__depth=(1, 2), stage1__skip=("none", "identity", "pool"), stage1__lone_skip=("none", "pool"), stage2__width=(16, 32),
        stage2__convolution=("conv", "sepconv"), stage2__se_ratio=(0, 0.25), stage3__depth=(2, 4), stage3__skip=("none", "pool"),
    )  # fmt: skip


class TestMnasNetSmall(SpaceContract):
    name = "mnasnet-small"
    small = all_fixed_but(
        name, stage1__depth=(1, 2), stage1__skip=("none", "identity"), stage5__skip=("none", "identity"), stage7__lone_skip=("none", "pool"),
        stage7__depth=(1, 2),
    )  # fmt: skip


class TestMnasNetTiny(SpaceContract):
    name = "mnasnet-tiny"
    small = all_fixed_but(name, stage2__depth=(1, 2, 3), stage2__skip=("none", "identity", "pool"), stage2__lone_skip=("none", "pool"),
                          stage3__convolution=("sepconv", "mbconv3", "mbconv6", "conv"), stage2__width=(24, 32))  # fmt: skip


class FewNetworks(SpaceContract):
    """A space with fewer networks than the contract draws."""

    def test_different_samples_are_different(self, space: SearchSpace, rng: np.random.Generator) -> None:
        assert len(set(space.decode(space.sample_different(300, rng)))) == space.size() < 300


class TestRepVgg(FewNetworks):
    name = "repvgg"
    small = all_fixed_but(name, resolution=(128, 224), skeleton=("a0", "a2", "b1g4", "b1"))


class TestRepVggTiny(FewNetworks):
    name = "repvgg-tiny"
    small = all_fixed_but(name, resolution=(20, 28), skeleton=("s", "mg2", "m", "l"))


class BranchesChangeNothingDeployed(SpaceContract):
    """A space whose branches merge: all its networks of one resolution are one network when they are deployed."""

    def test_different_architectures_are_different_networks(self, small_space: SearchSpace) -> None:
        networks = {tuple(block.key for block in small_space.blocks(architecture)) for architecture in small_space.enumerate()}
        assert len(networks) == 1 < small_space.size()


class TestRepNas(BranchesChangeNothingDeployed):
    name = "repnas"
    small = all_fixed_but(name, stem__branch_1x1=(0, 1), stage1__block1__branch_skip=(0, 1), stage4__block0__branch_kx1=(0, 1))


class TestRepNasOverAGroupedSkeleton(BranchesChangeNothingDeployed):
    name = "repnas:skeleton=b1g4"
    small = all_fixed_but(name, stem__branch_1x1=(0, 1), stage3__block15__branch_skip=(0, 1))


class TestRepNasTiny(BranchesChangeNothingDeployed):
    name = "repnas-tiny"
    small = all_fixed_but(name, stem__branch_kxk=(0, 1), stage3__block0__branch_1xk=(0, 1))


@pytest.mark.parametrize(
    "name", ["bignas-tiny:resolutions=24,image_channels=3,classes=37,kernels=layer,shortcuts=identity", "repnas-tiny:skeleton=s"]
)
def test_options_of_a_space_are_in_its_name(name: str) -> None:
    assert space_of_name(name).name == name
    assert space_of_name(space_of_name(name).name) == space_of_name(name)


@pytest.mark.parametrize(
    ("name", "said"),
    [("mnasnet:kernels=layer", "space 'mnasnet' has no option 'kernels', which was given as 'layer'"),
     ("bignas:kernels=block", "kernels is 'block'; expected one of stage, layer"),
     ("bignas:shortcuts=none", "shortcuts is 'none'; expected one of projection, identity"),
     ("bignas:skeleton=a0", "space 'bignas' has no option 'skeleton'"),
     ("repnas:skeleton=c1", "skeleton is 'c1'; space 'repnas' knows a0, a1"),
     ("repnas:skeleton=", "option 'skeleton=' of space 'repnas:skeleton=' is not understood"),
     ("ofa-resnet50:resolutions=130", "resolution 130 does not fit space 'ofa-resnet50'")],
)  # fmt: skip
def test_option_that_a_space_does_not_have_is_refused(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        space_of_name(name)


def test_option_at_its_usual_value_is_not_in_the_name() -> None:
    assert space_of_name("bignas:kernels=stage,shortcuts=projection").name == "bignas"
    assert space_of_name("repnas:skeleton=a0").name == "repnas"
