"""Models as pure functions: what reaches into TensorFlow, Keras and transformers to trace, cut and vectorize them."""

from tff_tx.core.internals import Internal

_TF, _KERAS, _HUGGING_FACE = "TensorFlow 2.14", "tf_keras 2.15", "transformers 4.53"
_OPS = "tensorflow.python.ops"
_AUTO = "transformers.models.auto"
_PYTORCH = "transformers.modeling_tf_pytorch_utils"
_DRAWS = ("random_uniform", "random_standard_normal", "truncated_normal", "random_uniform_int")
_OTHER_DRAWS = ("random_shuffle", "multinomial")

INTERNALS = (
    Internal(
        "tf_keras.layers.Layer.__dict__",
        "Tensors stand in it for the variables, past Keras' own __setattr__, which would track them.",
        _KERAS,
        "models/test_functional.py::test_the_keras_model_is_left_as_it_was",
    ),
    Internal(
        "tf_keras.layers.BatchNormalization.__dict__._trainable",
        "Replaced by False in a layer that is not trained, which then normalizes by the statistics it has.",
        _KERAS,
        "models/test_trainable.py::test_batch_normalization_below_the_head_keeps_its_statistics",
    ),
    Internal(
        "tf_keras.layers.Layer.call",
        "Replaced in a layer to adapt it, to compute it again in the backward pass, to mask packs, or to drop nothing.",
        _KERAS,
        "models/test_recomputation.py::test_gradients_of_adapters_are_the_same",
    ),
    Internal(
        "tf_keras.layers.Dropout.rate",
        "Replaced by a tensor, as clients of FedEx draw it, or by another number.",
        _KERAS,
        "algorithms/test_fed_ex.py::test_a_drawn_dropout_rate_is_that_of_a_model_built_with_it",
    ),
    Internal(
        "tf_keras.layers.Dense.activation",
        "Replaced by none, where the adapter computes it after adding its own product.",
        _KERAS,
        "models/test_lora.py::test_both_ways_to_compute_are_one",
    ),
    Internal(
        "tf_keras.layers.Conv2D.convolution_op",
        "Replaced by one convolution a group, as TensorFlow has no gradient of grouped ones without oneDNN or XLA.",
        _KERAS,
        "models/test_inlined_functions.py::test_grouped_convolutions_have_gradients_on_every_processor",
    ),
    Internal(
        "tf_keras.src.backend._SEED_GENERATOR.generator",
        "The generator of initial weights where set_random_seed of Keras was ever called.",
        _KERAS,
        "models/test_huggingface.py::test_weights_do_not_depend_on_what_ran_before",
    ),
    Internal(
        "tensorflow.python.eager.context.global_seed",
        "The global seed, to restore it after initial weights are drawn.",
        _TF,
        "models/test_huggingface.py::test_global_generators_go_on_as_if_nothing_had_happened",
    ),
    Internal(
        "tensorflow.python.eager.polymorphic_function.polymorphic_function.Function.__call__",
        "Replaced so that tf.functions of a model run as Python and cannot keep tensors of one client for the next.",
        _TF,
        "models/test_keras.py::test_a_layer_that_is_a_tf_function_is_traced_with_the_clients_weights",
    ),
    Internal(
        "tensorflow.python.eager.polymorphic_function.tf_method_target.TfMethodTarget",
        "Stands for the object that a tf.function is bound to.",
        _TF,
        "models/test_inlined_functions.py::test_outputs_and_gradients_equal_the_models",
    ),
    Internal(
        "tensorflow.python.util.tf_decorator.unwrap",
        "Finds the method within a bound tf.function.",
        _TF,
        "models/test_inlined_functions.py::test_the_models_own_functions_are_left_as_they_were",
    ),
    Internal(
        "tensorflow.__internal__.autograph.control_status_ctx",
        "AutoGraph's state where a model is called, for the functions within it.",
        _TF,
        "models/test_keras.py::test_python_control_flow_on_tensors_works",
    ),
    Internal(
        "tensorflow.__internal__.autograph.tf_convert",
        "Converts functions of a model as the model itself is converted.",
        _TF,
        "models/test_inlined_functions.py::test_outputs_and_gradients_equal_the_models",
    ),
    Internal(
        "tensorflow.__internal__.eager_context.eager_mode",
        "Leads out of the graphs of TensorFlow 1 that TFF makes, where == compares identities of tensors.",
        _TF,
        "models/test_keras.py::test_a_graph_made_inside_tff_compares_tensors_by_value",
    ),
    Internal(
        "tensorflow.__internal__.EagerTensor",
        "The type of captured values that become constants, as TFF's graphs cannot capture them.",
        _TF,
        "models/test_functional.py::test_outputs_and_gradients_are_the_same_inside_tff",
    ),
    Internal(
        f"{_OPS}.cond_v2._check_same_outputs",
        "Called before branches become an op; replaced to give results of different shapes a gradient.",
        _TF,
        "models/test_inlined_functions.py::test_branches_of_different_shapes_have_gradients",
    ),
    *(
        Internal(
            f"{_OPS}.gen_random_ops.{op}",
            "Replaced by a stateless op, so that draws depend on the seed of the data alone.",
            _TF,
            "models/test_randomness.py::test_no_stateful_op_is_left",
        )
        for op in _DRAWS + _OTHER_DRAWS
    ),
    Internal(
        f"{_OPS}.random_ops_util.get_key_counter_alg",
        "The key and counter of a stateless draw.",
        _TF,
        "models/test_randomness.py::test_a_generator_draws_from_the_seed_and_keeps_its_state",
    ),
    Internal(
        "tensorflow.random.Generator._prepare_key_counter",
        "Replaced so that draws of a generator (Keras' preprocessing layers own one) depend on the seed too.",
        _TF,
        "models/test_randomness.py::test_a_generator_draws_from_the_seed_and_keeps_its_state",
    ),
    *(
        Internal(
            f"{_OPS}.parallel_for.pfor.{name}",
            "Rules for the stateless random ops, of which tf.vectorized_map has none.",
            _TF,
            "models/test_vectorization.py::test_draws_are_those_for_the_batch_as_a_whole",
        )
        for name in ("_pfor_converter_registry", "_create_op", "wrap")
    ),
    Internal(
        "GraphDef._gradient_op_type",
        "Marks an op with a gradient of the model's own making, which a cut graph cannot have.",
        _TF,
        "models/test_features.py::test_what_cannot_be_cut_is_refused",
    ),
    Internal(
        "GraphDef._class",
        "Places an op beside another, which a part of a graph may not have.",
        _TF,
        "models/test_features.py::test_a_head_on_features_is_the_whole",
    ),
    Internal(
        "transformers.modeling_tf_utils.TFConv1D",
        "The dense layer of GPT-2, whose products are adapted.",
        _HUGGING_FACE,
        "models/test_lora.py::test_merged_equals_unmerged_and_gradients_are_those_of_the_merged_weights",
    ),
    *(
        Internal(
            f"TFWav2Vec2GroupNorm.{name}",
            "Replaced where recordings are padded: it normalizes over padding too.",
            _HUGGING_FACE,
            "models/test_speech.py::test_a_recording_does_not_depend_on_its_company",
        )
        for name in ("_apply_normalization", "_get_reshaped_weights")
    ),
    Internal(
        "transformers.PretrainedConfig.use_cache",
        "Replaced by False while blocks are recomputed: keys and values for generation would be stored.",
        _HUGGING_FACE,
        "models/test_recomputation.py::test_less_is_kept_for_the_backward_pass",
    ),
    Internal(
        "transformers.CvtConfig.image_size",
        "Replaced by None while a model is made: transformers asks for a size that CvT does not have.",
        _HUGGING_FACE,
        "tasks/test_images.py::test_backbones_of_every_kind_are_built_of_their_configuration",
    ),
    *(
        Internal(
            f"{_AUTO}.{name}",
            "Automatic classes: which models they have, and new ones for the models of this package.",
            _HUGGING_FACE,
            "models/test_ft_transformer.py::test_saving_and_loading_keeps_model_and_statistics",
        )
        for name in (
            "auto_factory._BaseAutoModelClass",
            "auto_factory._BaseAutoModelClass._model_mapping",
            "auto_factory._LazyAutoMapping",
            "configuration_auto.CONFIG_MAPPING",
        )
    ),
    *(
        Internal(
            f"{_PYTORCH}.{name}",
            "Names and layout of weights in PyTorch, for adapters in the format of PEFT.",
            _HUGGING_FACE,
            "models/test_lora.py::test_an_adapter_is_written_as_peft_has_it",
        )
        for name in ("convert_tf_weight_name_to_pt_weight_name", "apply_transpose")
    ),
)
"""What is used or replaced here that its library does not promise to keep."""
