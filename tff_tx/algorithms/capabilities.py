"""Properties of an algorithm that decide what it combines with.

Each is a string that an algorithm's file lists in its record. `REASONS` says why something cannot be combined with an
algorithm that lacks the property.
"""

CLIENT_OPTIMIZER = "client_optimizer"
"""Clients take steps away from the server's model. Terms that bind a client to it have an effect only then."""
CLIENT_RATE = "client_rate"
"""These are steps of the optimizer of the settings: its learning rate, schedule and clipping have an effect."""
CLIENT_TRANSFORMS = "client_transforms"
"""The client's step is a chain of `ClientTransform`."""
CLIENT_WEIGHTING = "client_weighting"
"""Clients may count equally."""
EXAMPLE_WEIGHTING = "example_weighting"
"""Clients may count by their number of examples. Control variates are plain means over clients, so that the algorithm
comes to rest where the mean gradient over clients is 0, however its updates are weighted."""
ONE_UPDATE = "one_update"
"""A client sends exactly one value of the model's shape. FedBuff, error feedback, forged updates and local DP are
defined on it: a second value would be stale, lose its residual, stay honest, or leave the client without noise."""
ONE_MODEL = "one_model"
"""All clients train the same model, so that their updates can be compared, and the model can teach or be audited."""
SENDS_MODEL = "sends_model"
"""The server's model minus a client's update is the client's model, which can teach others."""
SENDS_LOSS = "sends_loss"
"""Clients can send their mean loss beside their weight, for attention by loss."""
PRIVATE_METRICS = "private_metrics"
"""The round's metrics come from an aggregator, which may noise or withhold them."""
CENTRAL_DP = "central_dp"
"""All that is released of clients' data is the aggregate of their updates, so noise on that is enough."""
SECURE_SUMS = "secure_sums"
"""The server needs no more of clients than sums of updates and of figures."""
EXAMPLE_DP = "example_dp"
"""A pass over a client's data uses the gradient of each example once, as the accounting of DP-SGD assumes."""
PERSONAL_WEIGHTS = "personal_weights"
"""Clients train a model of their own from the server's, of which a part may stay with them."""
LORA_PRODUCTS = "lora_products"
"""Updates are differences of adapters after local training, so that products of factors are what centralized averaging
would give. A product of gradients is not the gradient of the product."""

REASONS = {
    CLIENT_OPTIMIZER: "its clients take no steps of an optimizer: they send a gradient at the server's model",
    CLIENT_RATE: "its clients take no steps of an optimizer that has a rate",
    CLIENT_TRANSFORMS: "its client step is no chain of transforms",
    EXAMPLE_WEIGHTING: "its control variates are plain means over clients",
    CLIENT_WEIGHTING: "its weights of clients are part of the algorithm",
    ONE_UPDATE: "its clients send more than one update of the model's shape",
    ONE_MODEL: "its clients train different models",
    SENDS_MODEL: "what its clients send is not the change of a model of their own",
    SENDS_LOSS: "its clients do not send their loss",
    PRIVATE_METRICS: "its metrics are exact sums",
    CENTRAL_DP: "its server sees more of clients than the aggregate of their updates",
    SECURE_SUMS: "its clients send more than sums of updates, examples and metrics",
    EXAMPLE_DP: "a pass of its clients uses each example more than once",
    PERSONAL_WEIGHTS: "its clients do not train one model, of which a part could stay with them",
    LORA_PRODUCTS: "its updates are not differences of trained adapters",
}

ALL = frozenset(REASONS)
BESIDE = ALL - {EXAMPLE_DP, PERSONAL_WEIGHTS, LORA_PRODUCTS}
"""Of algorithms whose clients train a model of their own beside the global one."""
