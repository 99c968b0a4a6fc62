"""HOReID beside naive forms of its paper's and its program's equations."""

import copy
import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from pgfl.config.recipe import Recipe
from pgfl.methods.horeid import method
from pgfl.methods.horeid.method import LINKED, LINKS, NODES
from pgfl.methods.horeid.relation import DirectedGraphLayer, Relation
from pgfl.methods.horeid.topology import Topology, Verification, doubly_stochastic, hardest_pairs
from pgfl.networks.build import build_network, student_of
from pgfl.nn.batch import Batch
from pgfl.nn.embedding import Embedding
from pgfl.pose.keypoints import PART_MIRROR, PARTS
from pgfl.retrieval.own import OwnDistance, own_blocks

CLOSE = {"rtol": 1e-9, "atol": 1e-9}
LABELS = torch.tensor([0, 0, 1, 1])


@pytest.fixture
def build(build_method):
    def make(**settings):
        network, recipe = build_method("horeid", **{"matching_channels": 16} | settings)
        return network, recipe.settings

    return make


@pytest.fixture
def batch(images, heatmaps, confidence):
    confidence[1, 3:6] = 0
    return Batch(images, LABELS, torch.zeros_like(LABELS), heatmaps, confidence)


@pytest.fixture
def random():
    """Draws from the normal distribution, the same ones at every run, in float64."""
    generator = torch.Generator().manual_seed(3)
    return lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)


def varied(module):
    """A module in float64 with statistics, shifts and scales unlike a fresh one's."""
    generator = torch.Generator().manual_seed(4)
    for name, value in module.double().state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2, generator=generator)
        elif name.endswith("running_mean") or ("norm" in name and value.is_floating_point()):
            value.normal_(generator=generator)
    return module


# Module S ---------------------------------------------------------------------------------------


def test_a_node_is_what_its_map_sees_and_the_last_one_sees_all(random):
    feature_map, maps = random(2, 3, 4, 2).float(), random(2, 8, 4, 2).exp().float()
    maps /= maps.sum(dim=(2, 3), keepdim=True)
    found = method.semantic_nodes(feature_map, maps)
    assert found.shape == (2, 9, 3)
    for image in range(2):
        for channel in range(3):
            places = feature_map[image, channel]
            for part in range(8):
                seen = sum((places * maps[image, part]).flatten().tolist())
                assert found[image, part, channel].item() == pytest.approx(seen, abs=1e-5)
            whole = sum(places.flatten().tolist()) / 8 + max(places.flatten().tolist())
            assert found[image, 8, channel].item() == pytest.approx(whole, abs=1e-5)


def test_the_parts_share_one_and_the_whole_image_has_one():
    found = method.node_weights(torch.tensor([[0.2, 0.6], [0.0, 0.5], [0.0, 0.0]]))
    torch.testing.assert_close(found, torch.tensor([[0.25, 0.75, 1], [0, 1, 1], [0, 0, 1]]))


# Module R ---------------------------------------------------------------------------------------


def test_the_links_are_a_body_that_is_the_same_in_a_mirror():
    linked = {frozenset(pair) for pair in LINKS}
    assert len(linked) == len(LINKED) == 7 and all(start < end for start, end in LINKS)
    assert {frozenset(PART_MIRROR[part] for part in pair) for pair in linked} == linked


@pytest.mark.parametrize("training", [True, False])
def test_a_graph_layer_directs_its_links(random, training):
    links = ((0, 1), (1, 2))
    layer = varied(DirectedGraphLayer(5, 3, links, scale=0.3)).train(training)
    state, nodes = copy.deepcopy(layer.state_dict()), random(4, 4, 5)
    found = layer(nodes)
    gaps = torch.stack(
        [
            torch.stack(
                [
                    15 * ((nodes[n, i] - nodes[n, 3]).abs() - (nodes[n, j] - nodes[n, 3]).abs())
                    for i, j in links
                ]
            )
            for n in range(4)
        ]
    )
    mean, variance = state["norm.running_mean"], state["norm.running_var"]
    if training:
        rows = gaps.reshape(8, 5)
        mean, variance = sum(rows) / 8, sum((row - sum(rows) / 8) ** 2 for row in rows) / 8
    for n in range(4):
        weights = torch.zeros(4, 4, dtype=torch.float64)
        weights[:, 3] = 1
        for e, (i, j) in enumerate(links):
            normed = (gaps[n, e] - mean) / (variance + 1e-5).sqrt()
            normed = normed * state["norm.weight"] + state["norm.bias"]
            share = 1 / (1 + math.exp(-0.3 * (normed @ state["direct.weight"][0]).item()))
            weights[i, j], weights[j, i] = 2 * share, 2 * (1 - share)
        for i in range(4):
            heard = sum(weights[i, j] * nodes[n, j] for j in range(4)) / weights[i].sum()
            expected = (state["merge.weight"] @ heard).clamp_min(0)
            expected = expected + state["keep.weight"] @ nodes[n, i]
            torch.testing.assert_close(found[n, i], expected, **CLOSE)


def test_messages_pass_along_links_and_from_the_whole_image(random):
    relation = varied(Relation(4, len(PARTS), LINKS, 0.3)).eval()
    weights = relation.layers[0].directed(random(2, 9, 4))
    torch.testing.assert_close(weights.sum(dim=2), torch.ones(2, 9, dtype=torch.float64))
    for i, hears in enumerate(NODES):
        for j, speaks in enumerate(NODES):
            linked = (hears, speaks) in LINKED or (speaks, hears) in LINKED
            assert ((weights[:, i, j] > 0) == (linked or speaks == "global")).all()


# Module T ---------------------------------------------------------------------------------------


def naive_match(affinities):
    """One pair: softmax of each row, then columns and rows in turn, ten times each."""
    size = len(affinities)
    weights = [[x + 1e-10 for x in (200 * row).softmax(0).tolist()] for row in affinities]
    for _ in range(10):
        sums = [sum(weights[i][j] for i in range(size)) for j in range(size)]
        weights = [[weights[i][j] / sums[j] for j in range(size)] for i in range(size)]
        weights = [[x / sum(row) for x in row] for row in weights]
    return torch.tensor(weights, dtype=torch.float64)


def naive_topology(topology, ours, theirs):
    """One pair, the layers one after another: U, V_1^T and V_2^T."""

    def layer(module, nodes):
        both = functional.leaky_relu(module.linear(nodes), 0.2)
        width = both.shape[1] // 2
        return both[:, :width] + both[:, width:]

    def affinity(module, x, y):
        symmetric = (module.weight + module.weight.T) / 2
        return torch.stack([torch.stack([a @ symmetric @ b for b in y]) for a in x]).detach()

    x, y = layer(topology.embed, ours), layer(topology.embed, theirs)
    matched = naive_match(affinity(topology.affinity, x, y))
    mixed_x = topology.cross(torch.cat([x, matched @ y], dim=1))
    mixed_y = topology.cross(torch.cat([y, matched.T @ x], dim=1))
    x, y = layer(topology.refine, mixed_x), layer(topology.refine, mixed_y)
    matched = naive_match(affinity(topology.refined_affinity, x, y))
    return matched, ours + matched @ theirs, theirs + matched.T @ ours


def naive_probability(verification, first, second):
    products = [
        verification.scale * a / a.norm() * b / b.norm()
        for a, b in zip(first, second, strict=True)
    ]
    logit = torch.cat(products) @ verification.linear.weight[0] + verification.linear.bias[0]
    return 1 / (1 + math.exp(-logit.item()))


def test_two_graphs_are_matched_as_layer_by_layer(random):
    torch.manual_seed(0)
    # Nodes so short that the softmax is not all one and nothing.
    topology, verification = Topology(6, 5).double(), Verification(6, 4, 10.0).double()
    nodes = 0.1 * random(5, 4, 6)
    encoded = topology.encode(nodes)
    rows = torch.tensor([3, 1, 0, 0, 2])
    found = topology(encoded, encoded.rows(rows))
    logits = verification(*found[1:])
    assert ((found[0] > 0.05) & (found[0] < 0.95)).any()
    for i, j in enumerate(rows):
        for one, expected in zip(found, naive_topology(topology, nodes[i], nodes[j]), strict=True):
            torch.testing.assert_close(one[i], expected, **CLOSE)
        expected = naive_probability(verification, found[1][i], found[2][i])
        assert logits[i].sigmoid().item() == pytest.approx(expected, rel=1e-9)
    one_to_all = topology(encoded.rows(slice(1, 2)), encoded)
    for one, all_of_it in zip(one_to_all, topology(encoded.rows([1] * 5), encoded), strict=True):
        torch.testing.assert_close(one, all_of_it, **CLOSE)


def test_a_match_is_doubly_stochastic(random):
    found = doubly_stochastic(0.002 * random(3, 6, 6))
    for axis in (1, 2):
        torch.testing.assert_close(found.sum(axis), torch.ones(3, 6).double(), rtol=0, atol=1e-3)
    # Affinities that leave columns empty, or all alike.
    for scale in (0.0, 1e4):
        assert doubly_stochastic(scale * random(3, 6, 6).float()).isfinite().all()


def test_the_hardest_pairs_are_mined(random):
    labels, features = torch.tensor([0, 1, 0, 1, 2, 0]), random(6, 3)
    positives, negatives, mined = hardest_pairs(features, labels)
    assert mined.tolist() == [[1, 1]] * 4 + [[0, 1], [1, 1]]
    for n in range(6):
        cosine = {k: torch.cosine_similarity(features[n], features[k], dim=0) for k in range(6)}
        same = [k for k in range(6) if labels[k] == labels[n] and k != n]
        others = [k for k in range(6) if labels[k] != labels[n]]
        assert not same or positives[n] == min(same, key=cosine.get)
        assert negatives[n] == max(others, key=cosine.get)
    assert hardest_pairs(features, torch.zeros(6))[2].tolist() == [[1, 0]] * 6


# The whole network ------------------------------------------------------------------------------


def test_every_output_has_a_row_for_each_image(build, batch):
    network, _ = build()
    features, logits = network(batch)
    shapes = {name: tuple(feature.shape) for name, feature in features.items()}
    assert shapes == {
        **{"semantic": (4, 512), "relation": (4, 512)},
        **{"matched": (4, 9, 9), "verified": (4, 2), "mined": (4, 2)},
    }
    assert list(logits) == [f"{stage}_{n}" for stage in ("semantic", "relation") for n in NODES]
    assert all(one.shape == (4, 5) for one in logits.values())


def test_the_loss_reaches_every_parameter(build, batch):
    network, settings = build()
    terms = method.losses(network(batch), batch, settings)
    assert list(terms) == [
        *("id_semantic", "triplet_semantic", "id_relation", "triplet_relation"),
        *("permutation", "verification"),
    ]
    sum(terms.values()).backward()
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad.isfinite().all() and parameter.grad.abs().max() > 0, name


def test_matching_teaches_nothing_before_it(build, batch):
    network, settings = build()
    terms = method.losses(network(batch), batch, settings)
    (terms["permutation"] + terms["verification"]).backward()
    taught = {n.partition(".")[0] for n, p in network.named_parameters() if p.grad is not None}
    assert taught == {"topology", "verification"}


def test_the_terms_are_those_of_the_outputs(build, batch):
    network, settings = build(lambda_permutation=0.7, lambda_verification=0.3)
    outputs = network(batch)
    found = method.losses(outputs, batch, settings)
    weights = method.node_weights(batch.confidence)
    for stage in ("semantic", "relation"):
        expected = 0
        for i, name in enumerate(NODES):
            log = outputs.logits[f"{stage}_{name}"].log_softmax(dim=1)
            for n in range(4):
                smoothed = 0.9 * log[n, LABELS[n]] + 0.1 * log[n].mean()
                expected -= weights[n, i] * smoothed / 4
        torch.testing.assert_close(found[f"id_{stage}"], expected)
    whole = torch.ones(4)
    matched = method.permutation_loss(outputs.features["matched"], whole)
    torch.testing.assert_close(found["permutation"], 0.7 * matched)
    verified = method.verification_loss(outputs.features["verified"], torch.ones(4, 2))
    torch.testing.assert_close(found["verification"], 0.3 * verified)


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_graphs_are_computed_in_float32(build, batch, precision):
    network, settings = build()
    with torch.autocast("cpu", precision):
        outputs = network.eval()(batch)
    values = [*outputs.features.values(), *outputs.logits.values()]
    assert {value.dtype for value in values} == {torch.float32}


# Losses -----------------------------------------------------------------------------------------


def test_identity_loss_counts_nodes_by_their_weight(assert_agrees):
    torch.manual_seed(0)
    weights = torch.rand(4, 3)

    def naive(logits):
        total = 0
        for n in range(4):
            for k in range(3):
                log = logits[n, k] - torch.log(sum(torch.exp(logits[n, k])))
                wanted = [0.1 / 5 + (0.9 if c == LABELS[n] else 0) for c in range(5)]
                total = total - weights[n, k] * sum(
                    w * v for w, v in zip(wanted, log, strict=True)
                )
        return total / 4

    assert_agrees(
        lambda logits: method.weighted_identity_loss(logits, LABELS, weights, 0.1),
        naive,
        torch.randn(4, 3, 5),
    )


def test_permutation_loss_wants_each_node_to_match_its_like(assert_agrees, assert_finite):
    torch.manual_seed(0)
    mined = torch.tensor([1.0, 0.0, 1.0])

    def naive(matched):
        total = 0
        for n in (0, 2):
            for i in range(4):
                for j in range(4):
                    one = matched[n, i, j]
                    total = total - torch.log(one if i == j else 1 - one)
        return total / 4 / 2

    drawn = torch.rand(3, 4, 4)
    assert_agrees(lambda matched: method.permutation_loss(matched, mined), naive, drawn)
    # Rounding can lift a weight above one.
    assert_finite(lambda matched: method.permutation_loss(matched, mined), drawn.round() + 1e-7)


def test_verification_loss_is_of_pairs_that_were_mined(assert_agrees, assert_finite):
    torch.manual_seed(0)
    mined = torch.tensor([[1.0, 1.0], [1.0, 0.0], [1.0, 0.0]])

    def naive(logits):
        positives = [torch.log(1 + torch.exp(-logits[n, 0])) for n in range(3)]
        return sum(positives) / 3 + torch.log(1 + torch.exp(logits[0, 1]))

    assert_agrees(lambda z: method.verification_loss(z, mined), naive, torch.randn(3, 2))
    assert_finite(lambda z: method.verification_loss(z, mined), 1e4 * torch.randn(3, 2))
    assert method.verification_loss(torch.randn(3, 2), torch.zeros(3, 2)) == 0


# Matching ---------------------------------------------------------------------------------------


def drawn(random, images):
    """Embeddings with parts that are hidden."""
    vectors = 0.1 * random(images, 9, 512).float()
    visibility = random(images, 9).float().sigmoid()
    visibility[:, 2:4], visibility[:, -1] = 0, 1
    return Embedding(vectors, visibility)


def naive_cosine(query, gallery, i, j):
    parts = []
    for images, row in ((query, i), (gallery, j)):
        seen = images.visibility[row].double()
        weights = [*(seen[:8] / sum(seen[:8])).tolist(), 1]
        vectors = images.vectors[row].double()
        parts.append([math.sqrt(w) * v for w, v in zip(weights, vectors, strict=True)])
    return torch.cosine_similarity(*map(torch.cat, parts), dim=0).item()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
def test_the_distances_are_those_of_each_pair_by_itself(build, random, gamma):
    network, _ = build(gamma=gamma)
    network.verification.linear.weight.data *= 20
    query, gallery = drawn(random, 2), drawn(random, 5)
    with torch.inference_mode():
        first = network.eval().distance(query, gallery)
        found = torch.cat([network.second_distance(query[i : i + 1], gallery) for i in range(2)])
    assert first.shape == found.shape == (2, 5) and found.std() > 1e-3
    network.double()
    for i in range(2):
        for j in range(5):
            cosine = naive_cosine(query, gallery, i, j)
            assert first[i, j].item() == pytest.approx(1 - cosine, abs=1e-5)
            pair = query.vectors[i].double(), gallery.vectors[j].double()
            _, *pair = naive_topology(network.topology, *pair)
            probability = naive_probability(network.verification, *pair)
            expected = 1 - gamma * cosine - (1 - gamma) * probability
            assert found[i, j].item() == pytest.approx(expected, abs=1e-4)


def test_the_verification_orders_the_nearest_by_the_cosine(build, random):
    network, _ = build(gamma=0, verified=3)
    query, gallery = drawn(random, 2), drawn(random, 7)
    distance = OwnDistance.of(network.eval(), torch.device("cpu"))
    query, gallery = (images.mapped(torch.Tensor.numpy) for images in (query, gallery))
    found = np.concatenate([*own_blocks(query, gallery, distance)])
    query, gallery = (images.mapped(torch.from_numpy) for images in (query, gallery))
    for i in range(2):
        cosines = [naive_cosine(query, gallery, i, j) for j in range(7)]
        order = np.argsort(cosines)[::-1]
        with torch.inference_mode():
            (again,) = network.second_distance(query[i : i + 1], gallery)
        best = sorted(order[:3], key=lambda j: again[j])
        assert np.argsort(found[i]).tolist() == [*best, *order[3:]]


def test_a_part_that_is_not_seen_does_not_count_in_the_cosine(build, random):
    network, _ = build()
    query, gallery = drawn(random, 2), drawn(random, 3)
    before = network.distance(query, gallery)
    query.vectors[:, 2:4] = 100
    assert torch.equal(network.distance(query, gallery), before)
    query.vectors[:, 1] = 100
    assert not torch.allclose(network.distance(query, gallery), before)


def test_an_image_is_embedded_by_itself(build, batch):
    network, _ = build()
    network(batch)  # running statistics
    network.eval()
    with torch.inference_mode():
        whole = network.embed(batch.images, batch.heatmaps, batch.confidence)
        raw = network.embed(batch.images, batch.heatmaps, batch.confidence, after_norm=False)
        for n in range(4):
            one = slice(n, n + 1)
            alone = network.embed(*(x[one] for x in (batch.images, *batch[3:])))
            torch.testing.assert_close(alone.vectors, whole.vectors[one], rtol=1e-4, atol=1e-4)
            assert torch.equal(alone.visibility, whole.visibility[one])
        torch.testing.assert_close(network.normed("relation", raw.vectors), whole.vectors)
    assert whole.shape == (4, 9, 512) and whole.vectors.dtype == torch.float32
    assert torch.equal(whole.visibility[:, :8], batch.confidence)
    assert (whole.visibility[:, 8] == 1).all()


def test_pose_is_needed_throughout(small):
    recipe = Recipe.parse({"method": "horeid", "settings": {}, "model": small.model_dump()})
    assert recipe.settings.needs_heatmaps and recipe.settings.needs_heatmaps_at_test
    assert student_of(build_network(recipe, 3), recipe) is None
    assert "pgfl.pose.store" not in recipe.idle_code
