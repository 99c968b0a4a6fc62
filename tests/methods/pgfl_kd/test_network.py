import copy
from pathlib import Path

import pytest
import torch

from pgfl.config.recipe import Recipe
from pgfl.datasets.images import IMAGENET_MEAN, IMAGENET_STD
from pgfl.errors import UserError
from pgfl.losses.consistency import consistency_loss
from pgfl.losses.multi_part_contrastive import multi_part_contrastive_loss
from pgfl.methods.bot import Student
from pgfl.methods.pgfl_kd.settings import Settings
from pgfl.networks.build import build_network
from pgfl.nn.backbone import Normalize, build_backbone
from pgfl.nn.batch import Batch
from pgfl.nn.part_pooling import pool_parts, resize_heatmaps
from pgfl.training.stage import start_from

BASELINE = {"reid_on": ("global",), "lambda_cl": 0, "lambda_mcl": 0}
ALL = {"global", "part", "fused", "foreground", "enhanced"}


def build(small, **settings):
    torch.manual_seed(0)
    settings = Settings(**{"second_layer4": "shared"} | settings)
    return build_network(Recipe(model=small, settings=settings), identities=5)


def batch_of(images, heatmaps):
    nobody = torch.zeros(len(images), dtype=torch.int64)
    return Batch(images, nobody, nobody, heatmaps)


@pytest.mark.parametrize(
    ("loss", "features"),
    [
        (BASELINE, {"global"}),
        ({}, ALL),
        (BASELINE | {"reid_on": ("global", "part")}, {"global", "part", "fused"}),
        (BASELINE | {"reid_on": ("global", "fused")}, {"global", "part", "fused"}),
        (
            BASELINE | {"lambda_mcl": 0.25, "reid_on": ("global", "part")},
            {"global", "part", "fused"},
        ),
        (BASELINE | {"lambda_cl": 0.25}, {"global", "foreground", "enhanced"}),
        (BASELINE | {"reid_on": ("global", "enhanced")}, {"global", "foreground", "enhanced"}),
        (BASELINE | {"reid_on": ("global", "foreground", "part")}, ALL),
    ],
)
def test_a_recipe_gets_the_features_it_needs(small, images, heatmaps, loss, features):
    model = build(small, **loss)
    found, logits = model(batch_of(images, None if loss == BASELINE else heatmaps))
    assert found.keys() == features
    assert logits.keys() == set(model.settings.reid_on)
    assert all(value.shape == (4, 512) for value in found.values())
    assert all(value.dtype == torch.float32 for value in found.values())
    assert all(value.shape == (4, 5) for value in logits.values())


def test_a_baseline_has_no_pose_branch(small):
    model = build(small, **BASELINE)
    assert model.part_branch is None and not model.uses_foreground
    assert not Settings(**BASELINE).needs_heatmaps


def test_a_recipe_with_branches_needs_heatmaps(small, images):
    with pytest.raises(AssertionError, match="need heatmaps"):
        build(small)(batch_of(images, None))


def test_features_are_sums_of_each_other(small, images, heatmaps):
    model = build(small)
    features, _ = model(batch_of(images, heatmaps))
    assert torch.equal(features["fused"], features["global"] + features["part"])
    assert torch.equal(features["enhanced"], features["foreground"] + features["global"])


def test_features_follow_from_the_feature_map(small, images, heatmaps):
    model = build(small).eval()
    with torch.no_grad():
        features, logits = model(batch_of(images, heatmaps))
        feature_map = model.student.feature_map(images)
        parts = pool_parts(feature_map, resize_heatmaps(heatmaps, (4, 2)))
        query, flat = parts.mean(dim=1), feature_map.flatten(2)
        mean = flat.mean(dim=2, keepdim=True)
        cosine = torch.cosine_similarity(flat - mean, query[:, :, None] - mean, dim=1)
        attention = (cosine / model.settings.attention_temperature).softmax(dim=1)
        foreground = (flat * attention[:, None]).sum(dim=2)
    torch.testing.assert_close(features["global"], feature_map.mean(dim=(2, 3)))
    torch.testing.assert_close(features["part"], model.part_branch(parts))
    torch.testing.assert_close(features["foreground"], foreground, rtol=1e-4, atol=1e-5)
    for name, value in logits.items():
        torch.testing.assert_close(value, model.necks[name](features[name]))


def test_attention_by_the_maps_pools_what_the_parts_pool_on_average(small, images, heatmaps):
    model = build(small, attention="maps").eval()
    with torch.no_grad():
        features, _ = model(batch_of(images, heatmaps))
        attention = model.attention(images, heatmaps)
        parts = pool_parts(model.student.feature_map(images), resize_heatmaps(heatmaps, (4, 2)))
    torch.testing.assert_close(features["foreground"], parts.mean(dim=1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(attention, resize_heatmaps(heatmaps, (4, 2)).mean(dim=1))


def test_the_global_neck_shares_the_students_normalisation(small, images, heatmaps):
    model = build(small)
    assert model.necks["global"].norm is model.student.norm
    assert model.necks["fused"].norm is not model.student.norm
    before = model.student.norm.running_mean.clone()
    model(batch_of(images, heatmaps))
    assert not torch.equal(model.student.norm.running_mean, before)
    names = [name for name, _ in model.named_parameters()]
    assert "student.norm.weight" in names and "necks.global.norm.weight" not in names


def test_the_student_is_the_global_feature(small, images, heatmaps):
    model = build(small).eval()
    model.student.norm.running_mean.fill_(0.5)
    with torch.inference_mode():
        features, _ = model(batch_of(images, heatmaps))
        before = model.student(images, after_norm=False)
        after = model.student(images)
    assert torch.equal(before, features["global"])
    torch.testing.assert_close(after, (before - 0.5) / (1 + model.student.norm.eps) ** 0.5)


def test_the_consistency_loss_leaves_its_teacher_alone(small, images, heatmaps):
    gradients = []
    for teach in (False, True):
        model = build(small)
        features, _ = model(batch_of(images, heatmaps))
        teacher = features["enhanced"]
        if teach:  # the same numbers as a constant
            teacher = teacher.clone().detach()
        consistency_loss(features["global"], teacher).backward()
        gradients.append(model.student.backbone.conv1.weight.grad)
    assert torch.equal(*gradients) and gradients[0].abs().sum() > 0


def test_the_contrastive_loss_trains_the_student_and_not_the_branch(small, images, heatmaps):
    model = build(small)
    features, _ = model(batch_of(images, heatmaps))
    multi_part_contrastive_loss(features["global"], features["part"]).backward()
    assert model.student.backbone.conv1.weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in model.part_branch.parameters())


def test_the_fused_feature_trains_both_branches_alike(small, images, heatmaps):
    # Eq. 8 and 9: the gradients of f_G and f_P are the same.
    features, _ = build(small)(batch_of(images, heatmaps))
    features["global"].retain_grad()
    features["part"].retain_grad()
    features["fused"].square().sum().backward()
    assert torch.equal(features["global"].grad, features["part"].grad)


def test_branches_may_have_a_last_stage_of_their_own(small, images, heatmaps):
    shared, own = build(small), build(small, second_layer4="separate")
    extra = own.state_dict().keys() - shared.state_dict().keys()
    assert {key.split(".")[0] for key in extra} == {"branch_layer4"}
    assert own.student.state_dict().keys() == shared.student.state_dict().keys()
    for (name, theirs), ours in zip(
        own.student.backbone.layer4.named_parameters(), own.branch_layer4.parameters(), strict=True
    ):
        assert torch.equal(theirs, ours) and theirs is not ours, name
    # As long as both stages are equal, so are the features.
    batch = batch_of(images, heatmaps)
    expected, found = shared(batch).features, own(batch).features
    for name in ALL:
        assert torch.equal(found[name], expected[name])


def test_a_separate_last_stage_feeds_the_branches_and_nothing_else(small, images, heatmaps):
    model = build(small, second_layer4="separate").eval()
    before, _ = model(batch_of(images, heatmaps))
    with torch.no_grad():
        model.branch_layer4[1].bn2.bias += 1
    after, _ = model(batch_of(images, heatmaps))
    assert torch.equal(after["global"], before["global"])
    for name in ("part", "foreground"):
        assert not torch.equal(after[name], before[name])
    after["part"].sum().backward()
    backbone = model.student.backbone
    assert all(parameter.grad is None for parameter in backbone.layer4.parameters())
    assert backbone.layer3[0].conv1.weight.grad.abs().sum() > 0
    assert model.branch_layer4[0].conv1.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("layer4", ["shared", "separate"])
def test_the_network_compiles_in_one_piece_and_trains_alike(small, images, heatmaps, layer4):
    model = build(small, second_layer4=layer4)
    # Without Inductor, which takes a minute: what it is given is what is looked at.
    whole = torch.compile(copy.deepcopy(model), backend="aot_eager", fullgraph=True)
    for network in (model, whole):
        features, logits = network(batch_of(images, heatmaps))
        sum(value.square().mean() for value in (features | logits).values()).backward()
    for (name, plain), ours in zip(model.named_parameters(), whole.parameters(), strict=True):
        if plain.requires_grad:
            assert (ours.grad - plain.grad).norm() <= 1e-4 * plain.grad.norm(), name


@pytest.mark.parametrize("layer4", ["shared", "separate"])
def test_both_last_stages_start_from_pretrained_weights(small, layer4):
    torch.manual_seed(5)
    weights = build_backbone(small).state_dict()
    model = build(small, second_layer4=layer4)
    recipe = Recipe(model=small, settings=model.settings)
    start_from(model, recipe, weights, Path("resnet18.pth"))
    assert torch.equal(model.student.backbone.conv1.weight, weights["conv1.weight"])
    if layer4 == "separate":
        for name, value in model.branch_layer4.state_dict().items():
            assert torch.equal(value, weights[f"layer4.{name}"])
    with pytest.raises(UserError, match=r"resnet18.pth: does not fit resnet18: it seems to be "):
        start_from(model, recipe, {}, Path("resnet18.pth"))
    weights["layer1.0.conv1.weight"][0] = torch.inf
    with pytest.raises(UserError, match=r"resnet18.pth: NaN or infinite values in layer1.0.conv1"):
        start_from(model, recipe, weights, Path("resnet18.pth"))


def test_a_baseline_has_no_second_last_stage(small):
    model = build(small, second_layer4="separate", **BASELINE)
    assert model.branch_layer4 is None


def test_part_features_can_be_brought_to_one_length(small, images, heatmaps):
    as_is, unit = build(small), build(small, part_scale="unit")
    unit.load_state_dict(as_is.state_dict())
    batch = batch_of(images, heatmaps)
    expected, found = as_is(batch).features, unit(batch).features
    for name in ("global", "foreground", "enhanced"):
        assert torch.equal(found[name], expected[name]), name
    assert not torch.allclose(found["part"], expected["part"])


def test_the_foreground_can_be_matched_to_the_global_feature(small, images, heatmaps):
    features, _ = build(small, foreground_scale="matched")(batch_of(images, heatmaps))
    f_g, f_f = features["global"], features["foreground"]
    added = features["enhanced"] - f_g
    torch.testing.assert_close(added.norm(dim=1), f_g.norm(dim=1))
    torch.testing.assert_close(torch.cosine_similarity(added, f_f), torch.ones(4))
    assert not torch.allclose(f_f.norm(dim=1), f_g.norm(dim=1))
    # The factor is a constant: the gradient of f_E reaches f_G as if f_F were given.
    f_g.retain_grad()
    f_f.retain_grad()
    features["enhanced"].sum().backward()
    assert torch.equal(f_g.grad, torch.ones_like(f_g))
    ratio = (f_g.norm(dim=1) / f_f.norm(dim=1))[:, None].detach()
    torch.testing.assert_close(f_f.grad, ratio.expand_as(f_f))


def test_pixels_are_normalised_as_imagenets():
    images = torch.tensor([[[[0, 128, 255]]]], dtype=torch.uint8)
    found = Normalize()(images)
    assert found.shape == (1, 3, 1, 1) and found.dtype == torch.float32
    for channel, value in enumerate((0, 128, 255)):
        expected = (value - IMAGENET_MEAN[channel]) / IMAGENET_STD[channel]
        assert found[0, channel, 0, 0].item() == pytest.approx(expected, rel=1e-6)


def test_the_student_alone_has_no_pose(small):
    keys = Student(Settings(), build_backbone(small)).state_dict().keys()
    assert all(key.startswith(("backbone.", "norm.")) for key in keys)


@pytest.mark.parametrize("attention", ["centred", "cosine"])
def test_attention_does_not_depend_on_how_large_parts_are_pooled(
    small, images, heatmaps, attention
):
    found = {}
    for pooling in ("sum", "mean"):
        model = build(small, attention=attention, part_pooling=pooling).eval()
        with torch.no_grad():
            found[pooling] = model.attention(images, heatmaps)
    torch.testing.assert_close(found["mean"], found["sum"])
    assert found["sum"].std() > 0
