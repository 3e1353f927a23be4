"""One decision and one conversation for the tests of this folder."""

from comity.rollout.records import Conversation, Decision, Piece

DECISION_ROW = Decision(
    iteration=3,
    match=1,
    group=0,
    seed=2**62,
    seat=1,
    round=4,
    step=0,
    kind="choose",
    player="own",
    adapter="main",
    version=3,
    controller="live",
    trained=True,
    conversation=2,
    start=57,
    tokens=[49, 7],
    logprob=-0.1,
    token_logprobs=[],
    legal=["A", "B"],
    probabilities=[0.9, 0.1],
    text='</script>"\n\x00 ☃',
    move=0,
    move_name="cooperate",
    played=1,
    state=[0, 1],
    payoff=5.0,
    max_welfare=100.0,
    normalized_reward=0.5,
)
TALK = Conversation(
    3, 2, 1, 1, None, [1, 2, 3], [Piece("prompt", 0, 2, "Hi"), Piece("answer", 2, 3, "A")]
)
