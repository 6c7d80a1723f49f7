"""The head of the Bitemporal Image Transformer."""

import dataclasses
import math

import pytest
import torch
from torch.nn import functional

from regraft.errors import OptionError
from regraft.models.change.attention import CrossAttention, DecoderLayer, EncoderLayer, SelfAttention, sinusoids
from regraft.models.change.bit import BitHead, BitOptions

WIDTH, HEADS, HEAD_DIM = 16, 2, 6
SMALL = BitOptions(width=WIDTH, heads=HEADS, head_dim=HEAD_DIM, decoder_head_dim=HEAD_DIM, position_size=8)


def small(**changes):
    return dataclasses.replace(SMALL, **changes)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def head(stirred):
    def build(channels=5, classes=2, **changes):
        torch.manual_seed(3)
        return stirred(BitHead(channels, classes, small(**changes)))

    return build


def by_hand(query, key, value, *, softmax=True):
    """One image, heads one after the other; rows are pixels or tokens. Scale: root of the model's width."""
    found = []
    for part in range(HEADS):
        inside = slice(part * HEAD_DIM, (part + 1) * HEAD_DIM)
        scores = query[:, inside] @ key[:, inside].T / math.sqrt(WIDTH)
        if softmax:
            scores = scores.exp() / scores.exp().sum(1, keepdim=True)
        found.append(scores @ value[:, inside])
    return torch.cat(found, dim=1)


@pytest.mark.parametrize("softmax", [True, False])
def test_cross_attention_is_the_formula(stirred, softmax):
    layer = stirred(CrossAttention(WIDTH, HEADS, HEAD_DIM, 0.0, softmax=softmax)).double()
    pixels, tokens = normal(2, 30, WIDTH).double(), normal(2, 3, WIDTH, seed=1).double()
    found = layer(pixels, tokens)
    for row in range(2):
        query, key, value = layer.to_q(pixels[row]), layer.to_k(tokens[row]), layer.to_v(tokens[row])
        expected = layer.to_out(by_hand(query, key, value, softmax=softmax))
        torch.testing.assert_close(found[row], expected, rtol=0, atol=1e-12)


def test_self_attention_is_the_formula(stirred):
    layer = stirred(SelfAttention(WIDTH, HEADS, HEAD_DIM, 0.0)).double()
    tokens = normal(2, 7, WIDTH).double()
    query, key, value = layer.to_qkv(tokens).chunk(3, dim=2)
    for row in range(2):
        expected = layer.to_out(by_hand(query[row], key[row], value[row]))
        torch.testing.assert_close(layer(tokens)[row], expected, rtol=0, atol=1e-12)


def test_cross_attention_has_the_gradients_of_the_plain_form(stirred):
    layer = stirred(CrossAttention(WIDTH, HEADS, HEAD_DIM, 0.0)).double()
    pixels, tokens = (
        normal(1, 9, WIDTH).double().requires_grad_(),
        normal(1, 3, WIDTH, seed=1).double().requires_grad_(),
    )
    wanted = [pixels, tokens, *layer.parameters()]
    found = torch.autograd.grad(layer(pixels, tokens).square().sum(), wanted)
    plain = layer.to_out(by_hand(layer.to_q(pixels[0]), layer.to_k(tokens[0]), layer.to_v(tokens[0])))
    for one, other in zip(found, torch.autograd.grad(plain.square().sum(), wanted), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_a_decoder_layer_norms_pixels_and_tokens_alike(stirred):
    layer = stirred(DecoderLayer(WIDTH, HEADS, HEAD_DIM, 24, 0.0))
    pixels, tokens = normal(2, 30, WIDTH), normal(2, 3, WIDTH, seed=1)
    norm = layer.attention_norm
    after = pixels + layer.attention(norm(pixels), norm(tokens))
    torch.testing.assert_close(layer(pixels, tokens), after + layer.mlp(layer.mlp_norm(after)))
    # A norm forgets the scale of what it sees, and so do the scores.
    torch.testing.assert_close(layer(pixels, 7 * tokens), layer(pixels, tokens), rtol=1e-4, atol=1e-4)


def test_an_encoder_layer_does_not_know_the_order_of_tokens(stirred):
    layer = stirred(EncoderLayer(WIDTH, HEADS, HEAD_DIM, 24, 0.0))
    tokens, order = normal(2, 7, WIDTH), torch.tensor([3, 0, 6, 1, 5, 2, 4])
    torch.testing.assert_close(layer(tokens[:, order]), layer(tokens)[:, order])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"upsample2x": False},
        {"tokens": "pool"},
        {"tokens": "pool", "pool": "avg", "pool_size": 3},
        {"token_len": 1},
        {"encoder": False},
        {"encoder_depth": 3, "encoder_positions": False},
        {"decoder": "simple"},
        {"decoder": "simple", "encoder": False, "tokens": "pool"},
        {"decoder": "none"},
        {"decoder_depth": 3},
        {"decoder_positions": "learned"},
        {"decoder_positions": "fixed"},
        {"decoder_softmax": False},
        {"heads": 1, "head_dim": 3, "decoder_head_dim": 5, "mlp_dim": 7},
        {"dropout": 0.3},
        {"sigmoid": True},
    ],
    ids=str,
)
@pytest.mark.parametrize(("size", "found"), [((64, 64), (8, 8)), ((50, 70), (7, 9))])
def test_every_option_learns_at_any_size(changes, size, found):
    head = BitHead(5, 3, small(**changes)).train()
    maps = normal(2, 2, 5, *found).requires_grad_()
    logits = head(maps, size)
    assert logits.shape == (2, 3, *size)
    assert logits.dtype == torch.float32
    labels = torch.arange(2 * size[0] * size[1]).reshape(2, *size) % 3
    functional.cross_entropy(logits, labels).backward()
    assert maps.grad.isfinite().all()
    assert maps.grad.abs().sum() > 0
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, f"{name} is not used"
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("tokens", ["semantic", "pool"])
@pytest.mark.parametrize("decoder", ["transformer", "simple", "none"])
def test_swapping_the_dates_changes_nothing_without_positions(head, tokens, decoder):
    net = head(tokens=tokens, decoder=decoder, encoder_positions=False, decoder_positions="fixed")
    maps = normal(2, 2, 5, 8, 8)
    torch.testing.assert_close(net(maps.flip(1), (64, 64)), net(maps, (64, 64)), rtol=1e-4, atol=1e-5)


def test_positions_of_the_tokens_tell_the_dates_apart(head):
    net, maps = head(), normal(2, 2, 5, 8, 8)
    assert (net(maps.flip(1), (64, 64)) - net(maps, (64, 64))).abs().max() > 1e-4


@pytest.mark.parametrize("decoder", ["transformer", "simple", "none"])
def test_pairs_of_a_batch_do_not_see_each_other(head, decoder):
    net, maps = head(decoder=decoder), normal(3, 2, 5, 8, 8)
    one_by_one = torch.cat([net(pair[None], (64, 64)) for pair in maps])
    torch.testing.assert_close(net(maps, (64, 64)), one_by_one, rtol=1e-4, atol=1e-5)


def test_equal_dates_give_what_no_difference_gives(head):
    net = head(encoder_positions=False)
    one = normal(1, 1, 5, 8, 8)
    nothing = net.classifier(torch.zeros(1, WIDTH, 64, 64))
    torch.testing.assert_close(net(one.expand(1, 2, 5, 8, 8), (64, 64)), nothing, rtol=1e-4, atol=1e-5)


def test_semantic_tokens_are_weighted_means_of_the_map(head):
    net, both = head(), normal(2, WIDTH, 4, 6)
    shares = net.conv_a.weight[:, :, 0, 0] @ both.reshape(2, WIDTH, 24)
    shares = shares.exp() / shares.exp().sum(2, keepdim=True)
    torch.testing.assert_close(net._tokens(both), torch.einsum("bln,bwn->blw", shares, both.reshape(2, WIDTH, 24)))


def test_pooled_tokens_are_a_grid_read_by_rows(head):
    both = torch.arange(16.0).reshape(1, 1, 4, 4).expand(2, WIDTH, 4, 4)
    assert head(tokens="pool")._tokens(both)[0, :, 0].tolist() == [5, 7, 13, 15]
    assert head(tokens="pool", pool="avg")._tokens(both)[0, :, 0].tolist() == [2.5, 4.5, 10.5, 12.5]


def test_the_simple_decoder_adds_the_tokens_to_every_pixel(head):
    net, both = head(decoder="simple", encoder=False), normal(2, WIDTH, 4, 6)
    added = net._with_tokens(both) - both
    expected = net._tokens(both).sum(1)[:, :, None, None].expand_as(both)
    torch.testing.assert_close(added, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("found", "inside"), [((4, 4), 16), ((8, 8), 16), ((16, 16), 16), ((32, 32), 32)])
def test_maps_are_doubled_up_to_a_quarter_of_the_image(head, found, inside):
    net, seen = head(), []
    net.conv_pred.register_forward_hook(lambda _layer, _inputs, output: seen.append(output.shape[-1]))
    assert net(normal(1, 2, 5, *found), (64, 64)).shape == (1, 2, 64, 64)
    assert seen == [inside]


def test_learned_positions_are_used_as_they_are_on_their_own_grid(head):
    net, both = head(decoder_positions="learned"), normal(2, WIDTH, 8, 8)
    torch.testing.assert_close(net._with_positions(both, (8, 8)), both + net.pos_embedding_decoder)
    with torch.no_grad():
        net.pos_embedding_decoder.fill_(0.5)
    wide = normal(2, WIDTH, 5, 11)
    torch.testing.assert_close(net._with_positions(wide, (5, 11)), wide + 0.5)


def test_fixed_positions_are_sines_and_cosines_of_row_and_column():
    grid = sinusoids(8, (5, 7), torch.zeros(()))
    assert grid.shape == (1, 8, 5, 7)
    for row, column in ((0, 0), (3, 6), (4, 1)):
        expected = [
            wave(place / 10_000 ** (step / 2)) for place in (row, column) for wave in (math.sin, math.cos)
            for step in (0, 1)
        ]  # fmt: skip
        torch.testing.assert_close(grid[0, :, row, column], torch.tensor(expected))


def test_sigmoid_is_of_the_logits(head):
    maps = normal(1, 2, 5, 8, 8)
    torch.testing.assert_close(head(sigmoid=True)(maps, (64, 64)), head()(maps, (64, 64)).sigmoid())


def test_logits_are_float32_under_autocast_and_channels_last_changes_nothing(head):
    net, maps = head(), normal(2, 2, 5, 8, 8)
    expected = net(maps, (64, 64))
    packed = maps.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, (2, 2))
    torch.testing.assert_close(net(packed, (64, 64)), expected, rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        found = net(packed, (64, 64))
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() < 0.1 * expected.abs().max()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": 6}, "3 to 5"),
        ({"stages": 2}, "3 to 5"),
        ({"token_len": 0}, "bit:token_len=0"),
        ({"mlp_dim": -1}, "bit:mlp_dim=-1"),
        ({"tokens": "words"}, "semantic, pool"),
        ({"decoder": "large"}, "transformer, simple, none"),
        ({"dropout": 1.0}, "below 1"),
        ({"decoder_positions": "fixed", "width": 30}, "multiple of 4"),
    ],
)
def test_impossible_options_are_told(changes, message):
    with pytest.raises(OptionError, match=message):
        BitOptions(**changes)


def test_parameters_exist_only_where_they_are_used():
    tokenless = BitHead(5, 2, small(decoder="none"))
    assert {name.partition(".")[0] for name in tokenless.state_dict()} == {"conv_pred", "classifier"}
    pooled = BitHead(5, 2, small(tokens="pool", pool_size=3))
    assert pooled.pos_embedding.shape == (1, 18, WIDTH)
    assert not hasattr(pooled, "conv_a")
