"""The ops that a participant runs: numbers in, numbers out. None of them reads or writes files, or calls Python."""

from __future__ import annotations

from collections.abc import Collection

from tff_tx.core.errors import UserError

_NAMES = """
Abs Acos Acosh Add AddN AddV2 All Any ApproximateEqual ArgMax ArgMin Asin Asinh Assert Atan Atan2 Atanh AvgPool
AvgPoolGrad BatchMatMul BatchMatMulV2 BatchMatMulV3 BatchToSpaceND BiasAdd BiasAddGrad Bincount Bitcast BitwiseAnd
BitwiseOr BitwiseXor BroadcastArgs BroadcastGradientArgs BroadcastTo Bucketize Case Cast Ceil CheckNumerics ClipByValue
Complex ComplexAbs Concat ConcatOffset ConcatV2 Const Conv2D Conv2DBackpropFilter Conv2DBackpropInput Cos Cosh Cross
Cumprod Cumsum CumulativeLogsumexp DenseBincount DepthToSpace DepthwiseConv2dNative DepthwiseConv2dNativeBackpropFilter
DepthwiseConv2dNativeBackpropInput Diag DiagPart Digamma Div DivNoNan DynamicPartition DynamicStitch Einsum Elu EluGrad
Empty EmptyTensorList EnsureShape Enter Equal Erf Erfc Erfinv EuclideanNorm Exit Exp ExpandDims Expm1 FFT Fill
FilterDataset Fingerprint FlatMapDataset Floor FloorDiv FloorMod FusedBatchNormGradV3 FusedBatchNormV3 Gather GatherNd
GatherV2 Greater GreaterEqual IFFT IRFFT Identity IdentityN If InTopKV2 Inv InvGrad Invert InvertPermutation IsFinite
IsInf IsNan L2Loss LeakyRelu LeakyReluGrad LeftShift Less LessEqual Lgamma LinSpace Log Log1p LogSoftmax LogicalAnd
LogicalNot LogicalOr LoopCond LowerBound MapDataset MatMul MatrixBandPart MatrixDiagPartV3 MatrixDiagV3 MatrixSetDiagV3
MatrixTriangularSolve Max MaxPool MaxPoolGrad Maximum Mean Merge Min Minimum MirrorPad MirrorPadGrad Mod Mul MulNoNan
Multinomial Neg NextAfter NextIteration NoOp NonMaxSuppressionV3 NotEqual OneHot OnesLike Pack Pad PadV2
ParallelDynamicStitch PartitionedCall Placeholder PopulationCount Pow PreventGradient Prod Qr RFFT RandomUniformInt
Range RangeDataset Rank RealDiv Reciprocal ReciprocalGrad ReduceDataset Relu Relu6 Relu6Grad ReluGrad RepeatDataset
Reshape ResizeBilinear ResizeNearestNeighbor Reverse ReverseSequence ReverseV2 RightShift Rint Roll Round Rsqrt
RsqrtGrad ScatterNd SegmentMax SegmentMean SegmentSum Select SelectV2 SelfAdjointEigV2 Selu SeluGrad Shape ShapeN
Sigmoid SigmoidGrad Sign Sin Sinh Size Slice Snapshot Softmax SoftmaxCrossEntropyWithLogits Softplus SoftplusGrad
Softsign SoftsignGrad SpaceToBatchND SpaceToDepth SparseSoftmaxCrossEntropyWithLogits Split SplitV Sqrt SqrtGrad Square
SquaredDifference Squeeze StatefulPartitionedCall StatelessCase StatelessIf StatelessMultinomial StatelessRandomBinomial
StatelessRandomGammaV2 StatelessRandomGammaV3 StatelessRandomGetAlg StatelessRandomGetKeyCounter
StatelessRandomGetKeyCounterAlg StatelessRandomNormal StatelessRandomNormalV2 StatelessRandomPoisson
StatelessRandomUniform StatelessRandomUniformFullInt StatelessRandomUniformFullIntV2 StatelessRandomUniformInt
StatelessRandomUniformIntV2 StatelessRandomUniformV2 StatelessShuffle StatelessTruncatedNormal
StatelessTruncatedNormalV2 StatelessWhile StopGradient StridedSlice StridedSliceGrad Sub Sum Svd Switch TakeDataset Tan
Tanh TanhGrad TensorDataset TensorListConcatV2 TensorListElementShape TensorListFromTensor TensorListGetItem
TensorListLength TensorListPopBack TensorListPushBack TensorListReserve TensorListResize TensorListSetItem
TensorListStack TensorScatterAdd TensorScatterMax TensorScatterMin TensorScatterSub TensorScatterUpdate Tile TopK TopKV2
Transpose TruncateDiv TruncateMod Unique UniqueV2 Unpack UnsortedSegmentMax UnsortedSegmentMean UnsortedSegmentSum
UpperBound Where While Xdivy Xlog1py Xlogy ZerosLike Zeta
"""
KNOWN = frozenset(_NAMES.split())
"""A graph of another op is rejected, unless the participant's policy names it."""


def require_known(found: Collection[str], more: Collection[str] = ()) -> None:
    """Checks that a computation has no ops but known ones and some more.

    Raises:
      UserError: If it has.
    """
    if unknown := sorted(set(found) - KNOWN - set(more)):
        raise UserError(
            f"the plan's computation has the ops {', '.join(unknown)}, which are not among those that participants "
            "run: name them under operations in the policy if they do no harm."
        )
