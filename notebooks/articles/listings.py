"""What the listings of the five articles try, thing by thing: the smallest form in which it fails.

An attempt's code is ours, in our names, and is run by the chapter and by a test. `raises` holds the
error's name and words that its message contains; where nothing is raised, `gives` holds the answer.
"""

from dataclasses import dataclass

__all__ = ["ARTICLES", "ATTEMPTS", "KINDS", "LISTINGS", "Article", "Attempt", "Listing"]

KINDS = {
    "absent": "there is no such name",
    "gone": "an older Keras had it",
    "misused": "it exists, and wants something else",
    "shapes": "the numbers don't fit together",
    "unmade": "a name that no line of the listing makes",
    "silent": "nothing is raised where the fault is made",
    "setting": "it depends on what the machine has, or was told",
    "cut": "the text is damaged; nobody's idea",
}


@dataclass(frozen=True)
class Article:
    """An article by its title, with an English rendering of it."""

    number: int
    title: str
    english: str


@dataclass(frozen=True)
class Listing:
    """One block of code of an article, and what it is for."""

    id: str
    what: str


@dataclass(frozen=True)
class Attempt:
    """One thing that a listing tries. `instead` is an expression that works."""

    id: str
    kind: str
    code: str
    raises: tuple[str, str] | None = None
    gives: str = ""
    instead: str = ""
    gpu: bool = False  # where there is a GPU, it works


ARTICLES = (
    Article(
        1,
        "Keras和PyTorch的结合：深度学习入门和实战",
        "Keras and PyTorch combined: deep learning, first steps and practice",
    ),
    Article(
        2,
        "Keras与Torch的混合模型：实现跨框架的深度学习",
        "Hybrid models of Keras and Torch: deep learning across frameworks",
    ),
    Article(
        3,
        "PyTorch与Keras：谁更适合用于机器学习？",
        "PyTorch and Keras: which suits machine learning better?",
    ),
    Article(4, "", "no title in our copy"),
    Article(
        5,
        "深度学习框架中的领先者：Keras Explained",
        "A leader among the deep learning frameworks: Keras explained",
    ),
)

LISTINGS = (
    Listing("1a", "Install both, with one line of pip"),
    Listing("1b", "Train digits with `fit`, hand the network to PyTorch, train on, test"),
    Listing("2a", "Build one network of parts from both, train, save, predict"),
    Listing("3a", "A trained network for ImageNet, as the body of a detector"),
    Listing("4a", "A small classifier in Keras"),
    Listing("4b", "The same in PyTorch"),
    Listing("5a", "Digits with three dense layers"),
)

_GENERATOR = 'importlib.import_module("keras.src.legacy.preprocessing.image").ImageDataGenerator'

ATTEMPTS = (
    Attempt(
        "1a.1",
        "setting",
        'alone("import keras")',
        ("ModuleNotFoundError", "No module named 'tensorflow'"),
        instead='os.environ["KERAS_BACKEND"]',
    ),
    Attempt(
        "1b.1",
        "misused",
        'signature("keras.datasets.mnist.load_data")',
        gives="(path='mnist.npz')",
        instead="load_mnist",
    ),
    Attempt(
        "1b.2",
        "absent",
        "((x, y), (x, y)).split(128)",
        ("AttributeError", "'tuple' object has no attribute 'split'"),
        instead="DataLoader",
    ),
    Attempt(
        "1b.3",
        "absent",
        "((x, y), (x, y)).target",
        ("AttributeError", "'tuple' object has no attribute 'target'"),
        instead="load_mnist",
    ),
    Attempt(
        "1b.4",
        "silent",
        "float(x.max())",
        gives="255.00",
        instead='x.astype("float32") / 255',
    ),
    Attempt(
        "1b.5",
        "misused",
        "layers.Conv2D(32, 3, input_shape=(28, 28, 1))",
        ("UserWarning", "Do not pass an `input_shape`"),
        instead="keras.Input((28, 28, 1))",
    ),
    Attempt(
        "1b.6",
        "silent",
        "stack(layers.Conv2D(32, 3), layers.MaxPooling2D(2), layers.Dense(10)).output_shape",
        gives="(None, 13, 13, 10)",
        instead="layers.Flatten()",
    ),
    Attempt(
        "1b.7",
        "shapes",
        "keras.losses.sparse_categorical_crossentropy(np.zeros(8), np.full((8, 13, 13, 10), 0.1))",
        ("ValueError", "must have the same shape up until the last dimension"),
        instead="layers.Flatten()",
    ),
    Attempt(
        "1b.8",
        "silent",
        "stack(layers.Flatten(), layers.Dense(64), layers.Dense(10)).layers[1].activation.__name__",
        gives="linear",
        instead='layers.Dense(64, activation="relu")',
    ),
    Attempt(
        "1b.9",
        "silent",
        "F.cross_entropy(torch.eye(10)[:1], torch.tensor([0]))",
        gives="1.46",
        instead="layers.Dense(10)",
    ),
    Attempt(
        "1b.10",
        "absent",
        "torch.keras",
        ("AttributeError", "module 'torch' has no attribute 'keras'"),
        instead="keras.Sequential",
    ),
    Attempt(
        "1b.11",
        "absent",
        "keras.Sequential().model",
        ("AttributeError", "'Sequential' object has no attribute 'model'"),
        instead="isinstance(keras.Sequential(), nn.Module)",
    ),
    Attempt(
        "1b.12",
        "absent",
        "nn.Sequential().add",
        ("AttributeError", "'Sequential' object has no attribute 'add'"),
        instead="nn.Sequential().append",
    ),
    Attempt(
        "1b.13",
        "setting",
        "torch.zeros(1).cuda()",
        ("AssertionError", "CUDA"),
        instead="device.pick()",
        gpu=True,
    ),
    Attempt(
        "1b.14",
        "absent",
        "keras.losses.SparseCategoricalCrossentropyLoss",
        ("AttributeError", "has no attribute 'SparseCategoricalCrossentropyLoss'"),
        instead="nn.CrossEntropyLoss",
    ),
    Attempt(
        "1b.15",
        "misused",
        "keras.losses.SparseCategoricalCrossentropy()(torch.full((8, 10), 0.1), torch.zeros(8))",
        ("ValueError", "must have the same shape up until the last dimension"),
        instead="nn.CrossEntropyLoss()(torch.full((8, 10), 0.1), torch.zeros(8).long())",
    ),
    Attempt(
        "1b.16",
        "absent",
        "keras.optim",
        ("AttributeError", "module 'keras' has no attribute 'optim'"),
        instead="torch.optim.Adam",
    ),
    Attempt(
        "1b.17",
        "misused",
        "keras.optimizers.Adam(nn.Linear(2, 1).parameters())",
        ("ValueError", "Argument `learning_rate` should be float"),
        instead="torch.optim.Adam(nn.Linear(2, 1).parameters())",
    ),
    Attempt(
        "1b.18",
        "unmade",
        'eval("train_loader")',
        ("NameError", "name 'train_loader' is not defined"),
        instead="DataLoader",
    ),
    Attempt(
        "1b.19",
        "unmade",
        'eval("test_loader")',
        ("NameError", "name 'test_loader' is not defined"),
        instead="DataLoader",
    ),
    Attempt(
        "2a.1",
        "absent",
        'importlib.import_module("torch.function")',
        ("ModuleNotFoundError", "No module named 'torch.function'"),
        instead="torch.nn.functional",
    ),
    Attempt(
        "2a.2",
        "shapes",
        'torch.empty(8, 64, 224, 224, device="meta").view(-1, 128 * 5 * 5)',
        ("RuntimeError", "shape '[-1, 3200]' is invalid for input of size 25690112"),
        instead='torch.empty(8, 64, 224, 224, device="meta").flatten(1)',
    ),
    Attempt(
        "2a.3",
        "silent",
        'torch.empty(25, 64, 32, 32, device="meta").view(-1, 128 * 5 * 5).shape',
        gives="(512, 3200)",
        instead='torch.empty(25, 64, 32, 32, device="meta").flatten(1)',
    ),
    Attempt(
        "2a.4",
        "gone",
        "keras.ImageDataGenerator",
        ("AttributeError", "module 'keras' has no attribute 'ImageDataGenerator'"),
        instead="layers.RandomZoom",
    ),
    Attempt(
        "2a.5",
        "misused",
        f"{_GENERATOR}(shear=0.2)",
        ("TypeError", "unexpected keyword argument 'shear'"),
        instead="layers.RandomShear",
    ),
    Attempt(
        "2a.6",
        "misused",
        f"{_GENERATOR}(zoom=0.2)",
        ("TypeError", "unexpected keyword argument 'zoom'"),
        instead="layers.RandomZoom",
    ),
    Attempt(
        "2a.7",
        "absent",
        f"{_GENERATOR}().batch(8)",
        ("AttributeError", "'ImageDataGenerator' object has no attribute 'batch'"),
        instead="DataLoader",
    ),
    Attempt(
        "2a.8",
        "misused",
        'keras.utils.to_categorical([0, 1], output_mode="categorical")',
        ("TypeError", "unexpected keyword argument 'output_mode'"),
        instead="keras.utils.to_categorical([0, 1], num_classes=10)",
    ),
    Attempt(
        "2a.9",
        "misused",
        "keras.utils.to_categorical([0, 1], classes=np.arange(10))",
        ("TypeError", "unexpected keyword argument 'classes'"),
        instead="keras.utils.to_categorical([0, 1], num_classes=10)",
    ),
    Attempt(
        "2a.10",
        "silent",
        "keras.utils.to_categorical(range(10)).reshape(-1, 1).shape",
        gives="(100, 1)",
        instead="np.arange(10)",
    ),
    Attempt(
        "2a.11",
        "absent",
        "layers.Conv2d",
        ("AttributeError", "module 'keras.layers' has no attribute 'Conv2d'"),
        instead="layers.Conv2D",
    ),
    Attempt(
        "2a.12",
        "misused",
        "layers.Conv2D(3, 64, kernel_size=3)",
        ("TypeError", "got multiple values for argument 'kernel_size'"),
        instead="layers.Conv2D(64, kernel_size=3)",
    ),
    Attempt(
        "2a.13",
        "misused",
        "layers.Conv2D(64, kernel_size=3, padding=1)",
        ("AttributeError", "'int' object has no attribute 'lower'"),
        instead='layers.Conv2D(64, kernel_size=3, padding="same")',
    ),
    Attempt(
        "2a.14",
        "absent",
        "layers.MaxPool2d",
        ("AttributeError", "module 'keras.layers' has no attribute 'MaxPool2d'"),
        instead="layers.MaxPooling2D",
    ),
    Attempt(
        "2a.15",
        "silent",
        'stack(layers.Conv2D(64, 3, padding="same"), shape=(3, 224, 224)).weights[0].shape',
        gives="(3, 3, 224, 64)",
        instead='stack(layers.Conv2D(64, 3, padding="same"), shape=(224, 224, 3)).weights[0].shape',
    ),
    Attempt(
        "2a.16",
        "absent",
        "keras.Sequential().get_base_layer()",
        ("AttributeError", "'Sequential' object has no attribute 'get_base_layer'"),
        instead="stack(layers.Dense(3)).layers[0]",
    ),
    Attempt(
        "2a.17",
        "misused",
        "keras.Sequential([layers.Dense(3)]).inputs",
        ("AttributeError", "'Sequential' object has no attribute 'inputs'"),
        instead="stack(layers.Dense(3)).inputs",
    ),
    Attempt(
        "2a.18",
        "shapes",
        "nn.Linear(128 * 5 * 5, 512)(torch.zeros(1, 64 * 8 * 8))",
        ("RuntimeError", "mat1 and mat2 shapes cannot be multiplied (1x4096 and 3200x512)"),
        instead="nn.Linear(64 * 8 * 8, 512)(torch.zeros(1, 64 * 8 * 8))",
    ),
    Attempt(
        "2a.19",
        "gone",
        "layers.experimental",
        ("AttributeError", "module 'keras.layers' has no attribute 'experimental'"),
        instead="layers.CategoryEncoding",
    ),
    Attempt(
        "2a.20",
        "absent",
        "layers.ToCategorical",
        ("AttributeError", "module 'keras.layers' has no attribute 'ToCategorical'"),
        instead="layers.CategoryEncoding",
    ),
    Attempt(
        "2a.21",
        "misused",
        "keras.Model(keras.Input((4,)), nn.Linear(4, 2))",
        ("ValueError", "All `outputs` values must be KerasTensors"),
        instead="layers.TorchModuleWrapper(nn.Linear(4, 2), output_shape=(None, 2))",
    ),
    Attempt(
        "2a.22",
        "misused",
        "layers.TimeDistributed(layers.Dense(3), include_top=False)",
        ("ValueError", "Unrecognized keyword arguments passed to TimeDistributed"),
        instead="layers.TimeDistributed(layers.Dense(3))",
    ),
    Attempt(
        "2a.23",
        "absent",
        "layers.TimeDistributed(layers.Dense(3), initial_split=0.1)",
        ("ValueError", "Unrecognized keyword arguments passed to TimeDistributed"),
        instead="layers.TimeDistributed(layers.Dense(3))",
    ),
    Attempt(
        "2a.24",
        "silent",
        "layers.TimeDistributed(layers.Flatten())(torch.zeros(1, 3, 224, 224)).shape",
        gives="(1, 3, 50176)",
        instead="layers.Flatten()(torch.zeros(1, 3, 224, 224))",
    ),
    Attempt(
        "2a.25",
        "gone",
        "keras.optimizers.Adam(lr=0.01)",
        ("ValueError", "Argument(s) not recognized: {'lr': 0.01}"),
        instead="keras.optimizers.Adam(learning_rate=0.01)",
    ),
    Attempt(
        "2a.26",
        "misused",
        'layers.TimeDistributed(layers.Dense(3)).compile(loss="mse")',
        ("TypeError", "compile() got an unexpected keyword argument 'loss'"),
        instead='stack(layers.TimeDistributed(layers.Dense(3)), shape=(5, 2)).compile(loss="mse")',
    ),
    Attempt(
        "2a.27",
        "unmade",
        'eval("model")',
        ("NameError", "name 'model' is not defined"),
        instead="keras.Sequential()",
    ),
    Attempt(
        "2a.28",
        "misused",
        "keras.Sequential([layers.Dense(1)]).fit(np.ones((4, 2)), validation_labels=1)",
        ("TypeError", "got an unexpected keyword argument 'validation_labels'"),
        instead='"validation_data"',
    ),
    Attempt(
        "2a.29",
        "silent",
        'reopened(stack(layers.TorchModuleWrapper(nn.Linear(4, 2)), shape=(4,)), "h5")',
        ("ValueError", "Unknown layer: 'TorchModuleWrapper'"),
        instead='reopened(stack(layers.TorchModuleWrapper(nn.Linear(4, 2)), shape=(4,)), "keras")',
    ),
    Attempt(
        "3a.1",
        "shapes",
        'nn.MaxPool2d(2)(torch.empty(1, 512, 1, 1, device="meta"))',
        ("RuntimeError", "Output size is too small"),
        instead='nn.MaxPool2d(2)(torch.empty(1, 512, 2, 2, device="meta"))',
    ),
    Attempt(
        "3a.2",
        "shapes",
        'torch.empty(671089432, 671089432, 3, 3, device="meta")',
        ("RuntimeError", "Storage size calculation overflowed"),
        instead='torch.empty(512, 256, 3, 3, device="meta")',
    ),
    Attempt(
        "3a.3",
        "shapes",
        'nn.Conv2d(3, 10**2714, 3, device="meta")',
        ("TypeError", "Overflow when unpacking long"),
        instead='nn.Conv2d(3, 64, 3, device="meta")',
    ),
    Attempt(
        "3a.4",
        "cut",
        'compile("nn.Sequential(", "listing", "exec")',
        ("SyntaxError", "'(' was never closed"),
        instead='compile("nn.Sequential()", "listing", "exec")',
    ),
    Attempt(
        "3a.5",
        "silent",
        "torch.equal(nn.Conv2d(3, 64, 3).weight, nn.Conv2d(3, 64, 3).weight)",
        gives="False",
        instead="nn.Module.load_state_dict",
    ),
    Attempt(
        "4a.1",
        "unmade",
        'eval("X_train")',
        ("NameError", "name 'X_train' is not defined"),
        instead="np.random.default_rng(0).normal(size=(300, 20))",
    ),
    Attempt(
        "4a.2",
        "misused",
        "layers.Dense(10, input_dim=20)",
        ("UserWarning", "Do not pass an `input_shape`/`input_dim`"),
        instead="keras.Input((20,))",
    ),
    Attempt(
        "4b.1",
        "unmade",
        'eval("inputs")',
        ("NameError", "name 'inputs' is not defined"),
        instead="torch.zeros(300, 20)",
    ),
    Attempt(
        "4b.2",
        "misused",
        "nn.BCELoss()(torch.tensor([1.5]), torch.tensor([1.0]))",
        ("RuntimeError", "all elements of input should be between 0 and 1"),
        instead="nn.BCEWithLogitsLoss()(torch.tensor([1.5]), torch.tensor([1.0]))",
    ),
    Attempt(
        "4b.3",
        "silent",
        "nn.BCELoss()(torch.tensor([0.5]), torch.tensor([1.0]))",
        gives="0.69",
        instead="nn.BCEWithLogitsLoss()(torch.tensor([0.5]), torch.tensor([1.0]))",
    ),
    Attempt(
        "4b.4",
        "shapes",
        "nn.BCELoss()(torch.full((4, 1), 0.5), torch.ones(4))",
        ("ValueError", "that is different to the input size (torch.Size([4, 1]))"),
        instead="nn.BCELoss()(torch.full((4, 1), 0.5), torch.ones(4)[:, None])",
    ),
    Attempt(
        "5a.1",
        "setting",
        'alone("import tensorflow")',
        ("ModuleNotFoundError", "No module named 'tensorflow'"),
        instead="keras",
    ),
    Attempt(
        "5a.2",
        "cut",
        "compile(\"print('\\n')\", 'listing', 'exec')",
        ("SyntaxError", "unterminated string literal"),
        instead='compile("print()", "listing", "exec")',
    ),
    Attempt(
        "5a.3",
        "shapes",
        "stack(layers.Dense(64), shape=(784,))(np.zeros((2, 28, 28)))",
        ("ValueError", "Invalid input shape"),
        instead="stack(layers.Flatten(), layers.Dense(64))(np.zeros((2, 28, 28, 1)))",
    ),
    Attempt(
        "5a.4",
        "misused",
        "keras.losses.sparse_categorical_crossentropy(np.eye(10), np.eye(10))",
        ("ValueError", "must have the same shape up until the last dimension"),
        instead="keras.losses.sparse_categorical_crossentropy(np.arange(10), np.eye(10))",
    ),
    Attempt(
        "5a.5",
        "silent",
        "keras.losses.sparse_categorical_crossentropy(np.array([0]), np.array([[-1.0, 2.0]]))",
        gives="16.12",
        instead="keras.losses.SparseCategoricalCrossentropy(from_logits=True)",
    ),
    Attempt(
        "5a.6",
        "silent",
        "type(evaluated()).__name__",
        gives="list",
        instead="evaluated(return_dict=True)",
    ),
)
