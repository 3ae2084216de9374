"""All layers, under Keras' names."""

from ..retired import Moved, absent
from .activation import ELU, Activation, LeakyReLU, ReLU, Softmax
from .augmentation import (
    RandomAffine,
    RandomContrast,
    RandomCrop,
    RandomFlip,
    RandomRotation,
    RandomTranslation,
    RandomZoom,
)
from .batch_normalization import BatchNormalization
from .conv import Conv1D, Conv2D, Conv3D
from .conv_transpose import Conv1DTranspose, Conv2DTranspose, Conv3DTranspose
from .cropping import Cropping1D, Cropping2D, Cropping3D
from .dense import Dense
from .depthwise_conv import DepthwiseConv1D, DepthwiseConv2D
from .dropout import Dropout, SpatialDropout1D, SpatialDropout2D, SpatialDropout3D
from .group_normalization import GroupNormalization, LayerNormalization
from .input import Input, InputLayer
from .layer import Layer
from .parallel import Parallel, Residual
from .pooling import (
    AveragePooling1D,
    AveragePooling2D,
    AveragePooling3D,
    GlobalAveragePooling1D,
    GlobalAveragePooling2D,
    GlobalAveragePooling3D,
    GlobalMaxPooling1D,
    GlobalMaxPooling2D,
    GlobalMaxPooling3D,
    MaxPooling1D,
    MaxPooling2D,
    MaxPooling3D,
)
from .prelu import PReLU
from .rescaling import Rescaling
from .reshaping import Flatten, Permute, Reshape, ZeroPadding1D, ZeroPadding2D, ZeroPadding3D
from .resizing import CenterCrop, Resizing
from .separable_conv import SeparableConv1D, SeparableConv2D
from .upsampling import RepeatVector, UpSampling1D, UpSampling2D, UpSampling3D

Convolution1D, Convolution2D, Convolution3D = Conv1D, Conv2D, Conv3D
Convolution1DTranspose, Convolution2DTranspose, Convolution3DTranspose = (
    Conv1DTranspose,
    Conv2DTranspose,
    Conv3DTranspose,
)
SeparableConvolution1D, SeparableConvolution2D = SeparableConv1D, SeparableConv2D
MaxPool1D, MaxPool2D, MaxPool3D = MaxPooling1D, MaxPooling2D, MaxPooling3D
AvgPool1D, AvgPool2D, AvgPool3D = AveragePooling1D, AveragePooling2D, AveragePooling3D
GlobalMaxPool1D, GlobalMaxPool2D, GlobalMaxPool3D = GlobalMaxPooling1D, GlobalMaxPooling2D, GlobalMaxPooling3D
GlobalAvgPool1D, GlobalAvgPool2D, GlobalAvgPool3D = (
    GlobalAveragePooling1D,
    GlobalAveragePooling2D,
    GlobalAveragePooling3D,
)

__all__ = [
    "ELU",
    "Activation",
    "AveragePooling1D",
    "AveragePooling2D",
    "AveragePooling3D",
    "AvgPool1D",
    "AvgPool2D",
    "AvgPool3D",
    "BatchNormalization",
    "CenterCrop",
    "Conv1D",
    "Conv1DTranspose",
    "Conv2D",
    "Conv2DTranspose",
    "Conv3D",
    "Conv3DTranspose",
    "Convolution1D",
    "Convolution1DTranspose",
    "Convolution2D",
    "Convolution2DTranspose",
    "Convolution3D",
    "Convolution3DTranspose",
    "Cropping1D",
    "Cropping2D",
    "Cropping3D",
    "Dense",
    "DepthwiseConv1D",
    "DepthwiseConv2D",
    "Dropout",
    "Flatten",
    "GlobalAveragePooling1D",
    "GlobalAveragePooling2D",
    "GlobalAveragePooling3D",
    "GlobalAvgPool1D",
    "GlobalAvgPool2D",
    "GlobalAvgPool3D",
    "GlobalMaxPool1D",
    "GlobalMaxPool2D",
    "GlobalMaxPool3D",
    "GlobalMaxPooling1D",
    "GlobalMaxPooling2D",
    "GlobalMaxPooling3D",
    "GroupNormalization",
    "Input",
    "InputLayer",
    "Layer",
    "LayerNormalization",
    "LeakyReLU",
    "MaxPool1D",
    "MaxPool2D",
    "MaxPool3D",
    "MaxPooling1D",
    "MaxPooling2D",
    "MaxPooling3D",
    "PReLU",
    "Parallel",
    "Permute",
    "RandomAffine",
    "RandomContrast",
    "RandomCrop",
    "RandomFlip",
    "RandomRotation",
    "RandomTranslation",
    "RandomZoom",
    "ReLU",
    "RepeatVector",
    "Rescaling",
    "Reshape",
    "Residual",
    "Resizing",
    "SeparableConv1D",
    "SeparableConv2D",
    "SeparableConvolution1D",
    "SeparableConvolution2D",
    "Softmax",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
    "UpSampling1D",
    "UpSampling2D",
    "UpSampling3D",
    "ZeroPadding1D",
    "ZeroPadding2D",
    "ZeroPadding3D",
]

_INSTEAD = {
    "write Conv2D(..., dilation_rate=rate)": "AtrousConvolution1D AtrousConvolution2D AtrousConv1D AtrousConv2D",
    "it is now called Conv2DTranspose": "Deconvolution2D",
    "it is now called Conv3DTranspose": "Deconvolution3D",
    "use a convolution, which shares its weights over all positions": "LocallyConnected1D LocallyConnected2D",
    "use Conv1D, pooling and Dense for sequences": (
        "LSTM LSTMCell GRU GRUCell RNN SimpleRNN SimpleRNNCell StackedRNNCells ConvLSTM1D ConvLSTM2D ConvLSTM3D "
        "CuDNNLSTM CuDNNGRU Bidirectional TimeDistributed Masking Attention AdditiveAttention MultiHeadAttention "
        "GroupQueryAttention"
    ),
    "give the model numbers: one-hot rows by utils.to_categorical, or features that you compute": (
        "Embedding ReversibleEmbedding TextVectorization StringLookup IntegerLookup CategoryEncoding Discretization "
        "Hashing HashedCrossing MelSpectrogram STFTSpectrogram"
    ),
    "use LayerNormalization, GroupNormalization or BatchNormalization": (
        "RMSNormalization UnitNormalization SpectralNormalization"
    ),
    "use Rescaling, or subtract the mean and divide by the deviation before fit": "Normalization",
    "write a layers.Layer with forward(x, step, training) returning (y, backward)": "Lambda Wrapper Pipeline",
    "a residual block is Residual([...]); Parallel(paths, merge='add') sums the results of several paths": "Add add",
    "Parallel(paths, merge='concatenate') joins the results of several paths": "Concatenate concatenate Merge merge",
    "models are sequences of layers: Parallel can add and concatenate": (
        "Subtract Multiply Average Maximum Minimum Dot subtract multiply average maximum minimum dot Highway"
    ),
    "use PReLU, LeakyReLU(negative_slope=...) or ELU": "ParametricSoftplus SReLU",
    "write ReLU(threshold=...)": "ThresholdedReLU",
    "Activation('linear') returns its input": "Identity",
    "use Dropout or a SpatialDropout layer": "GaussianDropout GaussianNoise AlphaDropout",
    "give any layer activity_regularizer=": "ActivityRegularization",
    "use GlobalAveragePooling or GlobalMaxPooling": (
        "AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D AdaptiveMaxPooling1D "
        "AdaptiveMaxPooling2D AdaptiveMaxPooling3D"
    ),
    "gpucnn is for images with labels, not for bounding boxes": "MaxNumBoundingBoxes",
    "change the images in a generator that fit reads": (
        "RandomBrightness "
        "RandomShear  RandomErasing RandomElasticTransform RandomHue RandomSaturation RandomSharpness "
        "RandomGrayscale RandomInvert  RandomGaussianBlur RandomPerspective RandomPosterization RandomColorJitter "
        "RandomColorDegeneration  RandAugment AugMix AutoContrast ContrastLimitedAdaptiveHistogramEqualization "
        "Equalization Solarization CutMix MixUp"
    ),
    "gpucnn runs its layers and yours, not those of other libraries": "FlaxLayer JaxLayer TFSMLayer TorchModuleWrapper",
    "write DepthwiseConv2D": "DepthwiseConvolution2D",
    "write Dense": "EinsumDense MaxoutDense TimeDistributedDense",
    "set ndim or min_ndim on your Layer": "InputSpec",
    "layer.get_config() and Layer.from_config(config) do this": "serialize deserialize",
}
"""What to use instead of layers that Keras has, or once had, and gpucnn lacks."""

__getattr__ = absent(__name__, {name: instead for instead, names in _INSTEAD.items() for name in names.split()})

for _old in ("advanced_activations", "convolutional", "core", "noise", "normalization"):
    Moved(f"{__name__}.{_old}")
