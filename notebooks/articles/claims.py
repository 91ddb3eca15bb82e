"""What the texts of the five articles claim, in our words, and what this book found.

A claim is checkable: the book, or a source that it names, can say whether it holds. Praise, plans
and forecasts are left out. A claim's number begins with its article's; `also` names further places.
"""

import re
from dataclasses import dataclass

__all__ = ["CLAIMS", "VERDICTS", "Claim"]

VERDICTS = ("true", "half true", "wrong")

CHAPTERS = """01_concepts 02_activations 03_losses 04_backpropagation 05_optimisers 06_data 07_dense
08_convolution 09_judging 10_keras_in_torch 11_torch_in_keras 12_weights 13_defaults 14_speed
15_generalisation 16_many_processes 17_shipping 18_safety 19_privacy 20_boxes 21_regions
22_detection 23_detector_ships 24_inside 25_automl 26_modalities 27_fairness 28_which 29_articles"""


@dataclass(frozen=True)
class Claim:
    """What is said, where, whether it holds, why, and the places that show it."""

    id: str
    where: str
    says: str
    verdict: str
    truth: str
    see: tuple[tuple[str, str], ...]
    also: str = ""


def at(chapter: int, heading: str = "") -> tuple[str, str]:
    """A link's text and target: a section of a chapter, or a chapter as a whole."""
    file = CHAPTERS.split()[chapter - 1] + ".ipynb"
    anchor = re.sub(r"[^\w\- ]", "", heading.lower().replace(" ", "-"))
    if chapter == 29:
        return f"here, *{heading}*", f"#{anchor}"
    if not heading:
        return f"chapter {chapter}", file
    return f"chapter {chapter}, *{heading}*", f"{file}#{anchor}"


LISTING_1A = "Listing 1a: one line of pip"
LISTING_1B = "Listing 1b: a network that changes hands"
LISTING_2A = "Listing 2a: one network of two kinds of parts"
LISTING_3A = "Listing 3a: seventy-five convolutions"
LISTING_4B = "Listings 4a and 4b: one classifier, twice"
LISTING_5A = "Listing 5a: three dense layers"

CLAIMS = (
    # Article 1
    Claim(
        "1.1", "2.1", "Deep learning simulates the human nervous system.", "half true",
        "The first networks took their idea from nerves. What a layer computes is a weighted sum "
        "and a bend, and it learns by a derivative. Nothing in it was fitted to a nerve.",
        (at(1, "The network"),), "4 § 3.1; 5 § 2.1.2",
    ),
    Claim(
        "1.2", "2.1", "Every layer of a network works by convolution, pooling and the like.",
        "wrong",
        "Networks for pictures have such layers, among others. The dense network has none, and "
        "reads digits well.",
        (at(7, "The network, mended"), at(8, "Stride, padding, pooling")),
    ),
    Claim(
        "1.3", "2.2.1", "A network has an input layer, hidden layers and an output layer.", "true",
        "That is the usual order, though what is called the input layer computes nothing.",
        (at(1, "The network"),), "4 § 3.1",
    ),
    Claim(
        "1.4", "2.2.2", "Among ReLU, sigmoid and tanh, ReLU is what is used most.", "half true",
        "In hidden layers of networks for pictures, yes. In the gates of a recurrent network it is "
        "the sigmoid, and many transformers use none of the three.",
        (at(2, "What to put at the end: advice gone wrong"),),
    ),
    Claim(
        "1.5", "2.2.3", "A loss measures how far answers are from the truth; squared error and "
        "cross-entropy are common.", "true",
        "And neither is arbitrary: each is a bet on how the truth is scattered.",
        (at(3, "A loss is a bet on the noise"),), "4 § 2.1, 2.2, 3.3; 5 § 2.2.4",
    ),
    Claim(
        "1.6", "2.2.4", "An optimiser changes the parameters; gradient descent and Adam are two.",
        "true", "There are seven in chapter 5, in both frameworks.",
        (at(5, "Seven rules"),), "4 § 2.1, 2.2",
    ),
    Claim(
        "1.7", "2.3", "PyTorch performs better than Keras.", "half true",
        "Not in accuracy: the same network is the same. In speed, yes: `fit` costs more than a "
        "plain loop, most on small networks, and most of it can be got back.",
        (at(14, "What `fit` costs, and how to get it back"), at(28)), "1 § 1.1",
    ),
    Claim(
        "1.8", "3.1", "One line of pip installs both, on Linux; then the environment is set.",
        "half true",
        "The line does, and not on Linux alone. What is to be set isn't said: Keras doesn't start "
        "until it is told its backend.",
        (at(29, LISTING_1A),),
    ),
    Claim(
        "1.9", "3.2", "Keras' and PyTorch's core differ in their interface, not much else.",
        "half true",
        "The arithmetic is the same. Defaults of layers, losses and optimisers are not, and they "
        "differ in silence.",
        (at(13, "The table"),),
    ),
    Claim(
        "1.10", "4.1", "One can build a network in Keras and train it on in PyTorch.", "true",
        "It is among the best things in this pair of libraries, and needs no conversion.",
        (at(10, "From `fit` to a loop"), at(29, LISTING_1B)),
    ),
    Claim(
        "1.11", "4.3", "The code shown loads the digits, trains in both and tests.", "wrong",
        "It doesn't get past loading them.", (at(29, LISTING_1B),),
    ),
    Claim(
        "1.12", "5.1", "Tuning settings, structure and activations improves a network.",
        "half true",
        "It can. What a search reports as its best score is in part luck, which fresh pictures "
        "take back.",
        (at(15, "Searching, and what the winner's score is worth"), at(25)), "2 § 5.1",
    ),
    Claim(
        "1.13", "5.2", "The code can be extended for production.", "half true",
        "A network that trains can. But it is the smaller part: files, rounding, bad requests and "
        "load are the rest, and all of it is still to be written.",
        (at(17, "A service that expects the worst"),),
    ),
    Claim(
        "1.14", "5.3", "Logs and error handling make a model secure.", "half true",
        "They show that something is wrong. They stop no file that runs code, no adversarial "
        "picture and no poisoned label.",
        (at(18, "Errors that help"), at(18, "Files: opening is running")),
    ),
    Claim(
        "1.15", "1.1", "Keras is a high-level interface to neural networks.", "true",
        "So it calls itself, and so it is.", (at(1, "What the two frameworks are, and are not"),),
        "3 § 2.1.2; 4 § 1.1, 2.1",
    ),
    Claim(
        "1.16", "2.1", "TensorFlow, PyTorch and Keras are three frameworks that carry out these "
        "operations.", "half true",
        "Two of them do. Keras describes, and one of JAX, TensorFlow or PyTorch computes.",
        (at(29, "What Keras stands on"),), "2 § 1.1; 5 § 1.1, 2.1.1",
    ),
    Claim(
        "1.17", "4.3", "MNIST has 60,000 training pictures of 28 × 28.", "true",
        "They are verified each time that they are loaded.", (at(6, "What is in the files"),),
    ),
    Claim(
        "1.18", "2.3", "Keras is easy and for beginners and prototypes, PyTorch is flexible and "
        "for research.", "half true",
        "For what `fit` knows Keras' program is the shorter one, for what it doesn't know "
        "PyTorch's: that was counted. A Keras model in PyTorch's loop has both. Whom that suits, "
        "nobody can count.",
        (at(28), at(10, "From `fit` to a loop")), "1 § 1.1; 4 § 2.3, 6; 5 § 1.1",
    ),
    # Article 2
    Claim(
        "2.1", "1.1", "A hybrid of both frameworks cures poor portability and involved training.",
        "wrong",
        "A hybrid needs both libraries wherever it goes, and opening its file may run code. What "
        "makes a network portable is an exchange format.",
        (at(11, "The file"), at(17, "ONNX: a graph of standard operations")), "2 § 2.2, 7.1",
    ),
    Claim(
        "2.2", "2.1", "A model consists of a data layer, network layers and activations.",
        "half true",
        "Of layers and activations, yes. Data are prepared before it, or by a layer in it. What "
        "makes it learn is missing: a loss and an optimiser.",
        (at(1, "The network"), at(6, "Batches")),
    ),
    Claim(
        "2.3", "2.2", "A hybrid trains faster and performs better, as it joins the strengths.",
        "wrong",
        "Half and half is the same network as either whole, to rounding. And `fit` around a "
        "PyTorch module still costs what `fit` costs.",
        (at(11, "Half and half, and the same network"), at(14, "Keras over PyTorch")),
        "2 § 2.3, 4.3, 7.1",
    ),
    Claim(
        "2.4", "2.3", "The two differ in their computational graphs and in speed.", "half true",
        "On this backend there is one graph, PyTorch's. Speed differs.",
        (at(4, "The graph that PyTorch builds"), at(14, "Keras over PyTorch")),
        "3 § 2.3; 4 § 2.3, 6",
    ),
    Claim(
        "2.5", "3.2", "Models come from `keras.models` and `keras.layers`, and the rest from "
        "`torch.nn` and `torch.function`.", "half true",
        "Three of the four exist. The last is `torch.nn.functional`.",
        (at(29, LISTING_2A),), "2 § 7.2",
    ),
    Claim(
        "2.6", "3.2", "The model is built by Keras, the graph by PyTorch's modules.", "half true",
        "The graph is PyTorch's. But nobody builds it: the forward pass leaves it behind, whoever "
        "described the layers.",
        (at(4, "`fit`, opened up"),), "2 § 7.2",
    ),
    Claim(
        "2.7", "4.3", "The code shown is a hybrid that works, and proves how well both cooperate.",
        "wrong", "It stops at an import, and its two halves never meet.", (at(29, LISTING_2A),),
    ),
    Claim(
        "2.8", "4.3", "By the names in the code, the network is a VGG.", "wrong",
        "It has two convolutions. The smallest in the paper by "
        "[Simonyan and Zisserman (2015)](../book/bibliography.md) has eight.",
        (at(29, LISTING_2A),),
    ),
    Claim(
        "2.9", "5.1", "More data and a larger network improve the result.", "half true",
        "More pictures do, by a curve that one can measure. A larger network may do either.",
        (at(15, "What would more pictures bring?"),
         at(15, "More parameters than pictures: double descent")),
    ),
    Claim(
        "2.10", "5.2", "Combining models of both frameworks makes them extend, or scale; the word "
        "may mean either.", "half true",
        "Parts of either can stand in the other: so much for extending. Scaling is sharing the "
        "work among processes, and there `fit` needs help.",
        (at(11, "Half and half, and the same network"), at(16, "Keras: `fit` doesn't know")),
    ),
    Claim(
        "2.11", "5.3", "Preparing the inputs, cleaning and restricting the training data make a "
        "model safer.", "half true",
        "They find poisoned pictures and false labels. They do little against a picture that is "
        "changed afterwards.",
        (at(18, "The data: labels that lie, and a picture that obeys"),
         at(18, "Adversarial examples: the worst that a small change can do")),
    ),
    # Article 3
    Claim(
        "3.1", "2.1.1", "PyTorch is open source, led by Facebook's research lab.", "half true",
        "It began there, in 2016. Since September 2022 it belongs to a foundation of its own "
        "under the Linux Foundation.",
        (("PyTorch's announcement", "https://pytorch.org/blog/PyTorchfoundation"),), "4 § 1.1",
    ),
    Claim(
        "3.2", "2.1.1", "PyTorch's leading idea is efficient computing.", "wrong",
        "The first principle of its authors is usability over performance.",
        (("PyTorch's design philosophy",
          "https://docs.pytorch.org/docs/stable/community/design.html"),),
    ),
    Claim(
        "3.3", "2.1.1", "PyTorch works with dynamic graphs and automatic differentiation.", "true",
        "Each forward pass leaves a graph, and `backward` walks it.",
        (at(4, "The graph that PyTorch builds"),), "3 § 2.2.1; 4 § 1.1, 2.2",
    ),
    Claim(
        "3.4", "2.2.1", "One defines the graph, and may change it while it runs.", "half true",
        "Nobody defines or changes it: it is made anew by whatever was computed, so that the next "
        "pass may take another branch.",
        (at(4, "7. The branch that isn't taken"),),
    ),
    Claim(
        "3.5", "2.2.1", "Backpropagation updates the parameters.", "half true",
        "It finds the gradients, and changes nothing. An optimiser makes the step.",
        (at(1, "A step downhill"), at(29, "Multiply by the weights?")),
        "3 § 2.2.2; 5 § 2.2.2",
    ),
    Claim(
        "3.6", "2.1.2", "Keras runs on several frameworks.", "true",
        "Until 2020, and again since Keras 3; in the years between on TensorFlow alone.",
        (at(1, "What the two frameworks are, and are not"),),
    ),
    Claim(
        "3.7", "2.1.3", "TensorFlow is Google's, distributed, and speaks several languages.",
        "true",
        "So says its authors' paper, [Abadi, Barham et al. (2016)](../book/bibliography.md). No "
        "cell can show it: this book doesn't install TensorFlow.",
        (("the paper", "https://arxiv.org/abs/1603.04467"),),
    ),
    Claim(
        "3.8", "2.2.2", "Keras' core is forward and backward passes.", "half true",
        "Every network has these. The backward pass is the backend's: `fit` calls PyTorch's "
        "`backward`.",
        (at(4, "`fit`, opened up"),), "3 § 2.2.3",
    ),
    Claim(
        "3.9", "2.3", "Keras and PyTorch differ in their backpropagation.", "wrong",
        "On this backend it is the same code. Even where it isn't, the gradient is a number that "
        "mathematics fixes: three engines agree to rounding.",
        (at(4, "Three engines and a difference"),),
    ),
    Claim(
        "3.10", "2.3", "Both support several frameworks.", "half true",
        "Keras does. PyTorch runs on PyTorch.",
        (at(29, "What Keras stands on"),),
    ),
    Claim(
        "3.11", "3.1", "Python, C++ and cuDNN have to be installed first.", "half true",
        "Python has. The packages bring the rest compiled, and a CPU has no use for cuDNN.",
        (at(29, "What has to be installed"),),
    ),
    Claim(
        "3.12", "3.2", "In either one makes a network, a loss and an optimiser.", "true",
        "And in PyTorch one writes the loop.", (at(1, "Training, twice"),),
    ),
    Claim(
        "3.13", "3.3", "Keras and PyTorch have to be integrated before one can test.", "wrong",
        "Each trains and tests alone.",
        (at(7, "The same path, step by step, for an epoch"),),
    ),
    Claim(
        "3.14", "4.1", "Both are used for classification, detection and language.", "true",
        "This book has the first two, in both. Language it leaves to others.",
        (at(8, "The real run"), at(22, "The full run")), "5 § 4.2",
    ),
    Claim(
        "3.15", "4.2", "Faster R-CNN is trained and tested on ImageNet.", "half true",
        "Its body is trained there first. A detector learns from boxes, and its paper, "
        "[Ren et al. (2015)](../book/bibliography.md), has them from PASCAL VOC and COCO.",
        (at(22, "Look twice"),),
    ),
    Claim(
        "3.16", "4.3", "The code of a Faster R-CNN follows, in both frameworks.", "wrong",
        "What follows is a row of convolutions, in one. The detector, in both, is in this book.",
        (at(29, LISTING_3A), at(22, "The network")),
    ),
    Claim(
        "3.17", "4.3", "The C++ library libtorch exports a network to ONNX.", "wrong",
        "The exporter is a function of Python. In C++ it was "
        "[asked for in 2019](https://github.com/pytorch/pytorch/issues/17869), and users "
        "have none. From C++ one runs what Python exported.",
        (at(29, "Who writes ONNX"), at(17, "Without Python")),
    ),
    Claim(
        "3.18", "4.3", "An ONNX file can be run on a CPU to check the network.", "true",
        "That is done with every test picture, and with a whole detector.",
        (at(17, "Equal to their sources, and to each other"),
         at(23, "Out of Python: a file that finds digits")),
    ),
    Claim(
        "3.19", "4.4", "The network shown is trained on ImageNet already.", "wrong",
        "Nothing loads a weight: two of them differ at the first number.", (at(29, LISTING_3A),),
    ),
    Claim(
        "3.20", "2.2.3", "TensorFlow describes networks by a graph, and trains by Keras.",
        "half true",
        "Both are on offer. Since its second version it computes at once by default, as PyTorch "
        "does, and makes a graph where it is told to.",
        (("TensorFlow's documentation",
          "https://www.tensorflow.org/api_docs/python/tf/compat/v1/disable_eager_execution"),),
    ),
    # Article 4
    Claim(
        "4.1", "1.1", "Keras was made by Google.", "half true",
        "François Chollet began it on his own in February 2015, before TensorFlow was published. "
        "Much of what came later was made at Google.",
        (("an interview with him", "https://lawwu.github.io/transcripts/transcript_44tFKZhPyP0.html"),),
    ),
    Claim(
        "4.2", "1.1", "Keras and PyTorch rest on TensorFlow's graph and on PyTorch's.", "half true",
        "PyTorch makes its own. Keras rests on its backend, and here that is PyTorch, too.",
        (at(29, "What Keras stands on"),),
    ),
    Claim(
        "4.3", "2.3", "Keras is built on TensorFlow.", "half true",
        "For some years it was. Keras 3 runs here with no TensorFlow in reach.",
        (at(29, "What Keras stands on"),), "4 § 6",
    ),
    Claim(
        "4.4", "1.1", "PyTorch is a low-level framework.", "half true",
        "It has tensors and derivatives, and also layers, losses, optimisers and loaders. Only the "
        "loop isn't there.",
        (at(1, "Training, twice"),), "4 § 2.2, 2.3, 6",
    ),
    Claim(
        "4.5", "2.1", "Every layer has weights and biases of its own.", "wrong",
        "Pooling, dropout, flattening and activations have none.",
        (at(29, "Layers without a weight"),), "4 § 3.1",
    ),
    Claim(
        "4.6", "2.1", "An activation bends the network's output, so that it can learn more "
        "complex patterns.", "half true",
        "It bends each layer's, except the last, which is best left straight. Without a bend two "
        "layers are one.",
        (at(2, "Without a bend, two layers are one"),), "4 § 2.2, 3.4; 5 § 2.2.3",
    ),
    Claim(
        "4.7", "2.1", "A Keras model is made of layers, for training and prediction.", "true",
        "In PyTorch a model may hold whatever its author wants.", (at(1, "The network"),),
    ),
    Claim(
        "4.8", "2.2", "A tensor is an array of numbers in several dimensions.", "true",
        "And it knows where it came from, if that is wanted.", (at(1, "Tensors"),),
    ),
    Claim(
        "4.9", "2.2", "PyTorch's central data structure is the graph, which describes the "
        "network.", "half true",
        "The tensor is. The graph describes one computation, and is thrown away after it.",
        (at(4, "What is kept for the way back"),),
    ),
    Claim(
        "4.10", "2.2", "Automatic differentiation finds the gradients.", "true",
        "To the last digits, as differences and a formula confirm.",
        (at(4, "Three engines and a difference"),),
    ),
    Claim(
        "4.11", "2.3", "Differences in speed come from the graph, and hardly matter.", "half true",
        "They come from what surrounds the network. For a small one they are a factor, for a large "
        "one they vanish.",
        (at(14, "What `fit` costs, and how to get it back"),), "4 § 6",
    ),
    Claim(
        "4.12", "3.1", "$y = f(Wx + b)$ is the formula of a neural network.", "half true",
        "Of one layer. With one layer, the first question of the book can't be answered.",
        (at(1, "A question that one weighted sum can't answer"),),
    ),
    Claim(
        "4.13", "3.2", "Gradient descent: start, take the gradient, update.", "half true",
        "Two things are missing: again and again, and by how much. The second decides whether it "
        "arrives at all.",
        (at(5, "How far is too far?"),),
    ),
    Claim(
        "4.14", "3.2", "Both frameworks offer gradient descent, its stochastic form, and Adam.",
        "half true",
        "There is no class for the first. It is SGD, with the whole set as its batch.",
        (at(29, "The names of descent"), at(5, "A batch is a cheap guess")),
    ),
    Claim(
        "4.15", "3.2", "Adam is named after Adams and a second person.", "wrong",
        "It is short for adaptive moment estimation, by [Kingma and Ba (2015)]"
        "(../book/bibliography.md). Adams solved differential equations, a century earlier.",
        (at(29, "The names of descent"), at(5, "Seven rules")),
    ),
    Claim(
        "4.16", "3.3", "Cross-entropy is for classes, squared error for regression.", "true",
        "These are the usual bets. With outliers, another is better.",
        (at(3, "Which loss"), at(3, "One outlier")),
    ),
    Claim(
        "4.17", "3.4", "For classification, end with a sigmoid or a softmax.", "half true",
        "That gives probabilities. Train on the sums before it: a loss of probabilities clips, and "
        "what it clips no longer learns.",
        (at(3, "What the clip kills"),),
    ),
    Claim(
        "4.18", "3.4", "For regression use ReLU, as sigmoid or softmax for classes (so, at the "
        "end).", "wrong",
        "Between layers it is a good choice. At the end it lets nothing below 0 out, and some "
        "starts never learn.",
        (at(2, "What to put at the end: advice gone wrong"),),
    ),
    Claim(
        "4.19", "4.1", "In Keras a model can be made by `Sequential`.", "true",
        "The version above is.",
        (at(29, LISTING_4B),),
    ),
    Claim(
        "4.20", "4.2", "The code imports the classes Tensor, nn and optim.", "wrong",
        "Two of these are modules, and no Tensor is imported.", (at(29, LISTING_4B),),
    ),
    Claim(
        "4.21", "5", "Automatic search, several kinds of data, explanations and ethics are new "
        "fields.", "half true",
        "They are fields. They were so before any framework here had its first version.",
        (at(24), at(25), at(26), at(27)),
    ),
    Claim(
        "4.22", "References", "54 works are listed, by authors, title, year and number.",
        "half true",
        "Some are right. Many stand there several times, others under false authors, numbers or "
        "titles.",
        (("the list, work by work", "../book/bibliography.md"),),
    ),
    # Article 5
    Claim(
        "5.1", "2.1.1", "A framework is for writing, training and deploying networks.", "true",
        "Part IV of this book deploys, out of both.",
        (at(17, "What was proved, of which form"),),
    ),
    Claim(
        "5.2", "2.1.2", "A unit takes inputs, and gives their weighted sum to the next layer.",
        "half true", "A bias is missing, and the bend, which is the point.",
        (at(1, "The network"), at(2, "Without a bend, two layers are one")),
    ),
    Claim(
        "5.3", "2.1.3", "Training fits a model to data; prediction applies it to what is new.",
        "true", "How well is judged by data that took no part.", (at(6, "Three sets"),),
    ),
    Claim(
        "5.4", "2.2.1", "The graph consists of layers and weights, and says how to update them.",
        "half true",
        "It consists of operations and tensors. It leads to the gradients; no update is in it.",
        (at(4, "A computation is a graph"),),
    ),
    Claim(
        "5.5", "2.2.2", "The gradient is multiplied by the weights to update them.", "wrong",
        "It is multiplied by the step size, and subtracted. By weights it is multiplied on its way "
        "to the layer below.",
        (at(29, "Multiply by the weights?"), at(4, "The same in matrix form, by hand")),
    ),
    Claim(
        "5.6", "2.2.5", "The forward pass goes from the input, layer by layer, to the answer.",
        "true", "Chapter 1 does it by hand.", (at(1, "The network"),),
    ),
    Claim(
        "5.7", "3.1", "Keras, TensorFlow and PyTorch have to be installed.", "half true",
        "Keras, and one of its backends.", (at(29, LISTING_1A),),
    ),
    Claim(
        "5.8", "3.2", "Keras' parts are `tf.keras.models`, `.layers` (functions that make layers), "
        "`.layers.Dense`, `.layers.Activation` and `.optimizers`.", "half true",
        "All five exist, here without the `tf`. What makes a layer is a class, not a function.",
        (at(29, "The names after the dot"),),
    ),
    Claim(
        "5.9", "3.3", "One runs the passes and the update on Keras' graph.", "wrong",
        "Keras has none of its own, and `fit` does all of it.",
        (at(4, "`fit`, opened up"),),
    ),
    Claim(
        "5.10", "4.1", "The code shown carries out the passes and learns to read digits.", "wrong",
        "Two errors stand before its first step, and a third, silent, after it.",
        (at(29, LISTING_5A),),
    ),
    Claim(
        "5.11", "4.3", "The core is `compile`, `fit`, `predict` and `evaluate`.", "true",
        "Chapter 7 shows what each of them does.", (at(7, "Four calls, and what they are"),),
    ),
    Claim(
        "5.12", "5.1", "Smaller batches train faster and more accurately.", "half true",
        "Each step is faster and each epoch slower. A given accuracy is reached first by a batch "
        "of middling size.",
        (at(14, "\"A smaller batch trains faster\""),),
    ),
    Claim(
        "5.13", "5.1", "More epochs train faster and more accurately.", "half true",
        "Not faster: each takes its time. More accurately for a while, and from some epoch on the "
        "validation loss rises.",
        (at(15, "Early stopping"),),
    ),
    Claim(
        "5.14", "5.1", "A more advanced optimiser trains faster and more accurately.", "half true",
        "Some do on some networks, if each has its own best step size.",
        (at(5, "A fair comparison"),),
    ),
    Claim(
        "5.15", "5.2", "Keras' parallel training shortens long training.", "half true",
        "On this backend `fit` knows nothing of other processes: each would go its own way. "
        "PyTorch's own tools do it, for Keras models too.",
        (at(16, "Keras: `fit` doesn't know"),),
    ),
    Claim(
        "5.16", "5.3", "Augmentation and regularisation protect privacy.", "wrong",
        "They weaken an attack on average. Unusual pictures are still found, and nothing is "
        "promised to anybody. Noise in training promises, at a price.",
        (at(19, "Remedies that are no privacy"), at(19, "A promise")),
    ),
    Claim(
        "5.17", "5.3", "Augmentation and regularisation make a model secure.", "wrong",
        "Against a picture made to deceive, only training on such pictures helped.",
        (at(18, "Training on attacks"),),
    ),
    Claim(
        "5.18", "4.1", "Pixels are brought to 0 to 1 before training.", "true",
        "It is half of what helps. The other half is to subtract the mean.",
        (at(6, "Scale, with the training set's numbers alone"),),
    ),
    Claim(
        "5.19", "2.1.2", "Networks serve for classification, regression and clustering.",
        "half true",
        "The first two are in this book. Clustering has no labels, so that none of these losses "
        "can ask for it.",
        (at(3, "Which loss"), at(7, "The real run, and the test set, once")),
    ),
    Claim(
        "5.20", "5.2", "A more advanced structure cures long training and low accuracy.",
        "half true", "A convolution raised the accuracy. It also takes longer.",
        (at(8, "Against chapter 7"),),
    ),
)  # fmt: skip
