"""Density-guided semi-supervised semantic segmentation (DGCL, CVPR 2023), as notebooks that train, explain and show themselves

Modules:

- `dgcl_nb.bank`: One ring of remembered pixels per class: what density is measured against, and where positives from other images come from.
- `dgcl_nb.batches`: Which images a step sees, and what it holds of them: a pure function of the seed and the step, so that nothing has to be remembered.
- `dgcl_nb.bench`: One command trains every method with every seed and writes one table: `python -m dgcl_nb.bench`.
- `dgcl_nb.colours`: Hue and blur of an image of bytes: each pixel changes its colour, and none its place.
- `dgcl_nb.config`: A whole run as one frozen object, and the presets that a researcher edits.
- `dgcl_nb.core`: The few things that every room needs: the words and letters of the code, seeds, errors, one collective, and the run folder.
- `dgcl_nb.data.digits`: The embedded data set: real handwriting over real photographs, rendered in seconds, the same on every machine that runs the same libraries.
- `dgcl_nb.data.files`: PASCAL VOC, Cityscapes, or a folder of your own: read, checked, and never guessed.
- `dgcl_nb.data.sets`: One setting names the data set; everything behind it is the same for all.
- `dgcl_nb.data.splits`: Which images are labelled, which are not, and on which we score: lists that are read, made, checked and recognised.
- `dgcl_nb.density`: How crowded is the place in feature space where a pixel lies? Exact multi-scale nearest-neighbour density, at little more than the price of one matrix product.
- `dgcl_nb.engine`: The loop: fetch, losses, step, after_step; once in a while it evaluates, shows itself and saves.
- `dgcl_nb.evaluate`: A run scored again, by any protocol and on any data of its classes: `python -m dgcl_nb.evaluate RUN`.
- `dgcl_nb.evaluation`: Whole images or sliding windows, several sizes and mirror images on request, always at the original resolution; every image once, and the protocol stands in the output.
- `dgcl_nb.looking.figures`: Arrays in, figure out: curves of a run, feature clusters, predictions side by side, density by class, and the test of the paper's claim about sparse regions.
- `dgcl_nb.looking.layout`: From feature vectors to points on a screen: a PCA view at once, UMAP over the exact neighbours of the density, and one layout over time that an eye can follow.
- `dgcl_nb.looking.runs`: Reading a run folder: finished, half-copied, or being written at this moment by another process.
- `dgcl_nb.losses`: The three terms: learn from labels, learn from pseudo-labels, and pull sparse pixels of a class towards its dense middle.
- `dgcl_nb.methods.dgcl`: Density-guided contrastive learning: features that are confident but lie in sparse regions of their class are pulled to where the class is dense.
- `dgcl_nb.methods.protocol`: What the loop asks of a method, and the frame that all self-training methods share: teacher → filter → mix → loss.
- `dgcl_nb.methods.self_training`: The baseline inside DGCL: a teacher's filtered labels on mixed images, and nothing about density.
- `dgcl_nb.methods.supervised`: The baseline that every other method must beat: labelled images, nothing else.
- `dgcl_nb.metrics`: What a run is judged by: mIoU over the whole set, how tight the classes lie in feature space, and how good the pseudo-labels are.
- `dgcl_nb.model`: From images to four maps: class scores, features, projections and, on request, auxiliary scores; and the teacher that follows.
- `dgcl_nb.predict`: The network of a run, put to work on pictures of your own: label maps, overlays, confidence, and an ONNX file.
- `dgcl_nb.pseudo_labels`: What a network believes of an unlabelled pixel, how sure it is, and how many of these beliefs may be used as labels.
- `dgcl_nb.report`: A run on one page that needs no network, no kernel and no Python: `python -m dgcl_nb.report runs/x`.
- `dgcl_nb.sampling`: Which pixels pull and which are pulled: anchors, positives and negatives of the contrastive loss, chosen by density, by confidence or by chance.
- `dgcl_nb.snapshots`: What a run shows of itself: small files that hold a few images and some thousand pixels, for every viewer to read.
- `dgcl_nb.teacher`: A copy of the network that follows it slowly: an average over its past, which labels what the network has to learn.
- `dgcl_nb.train`: One command trains a method and leaves a run folder: `python -m dgcl_nb.train`.
- `dgcl_nb.views`: What a network is shown of an image: the weak view, the strong view, and CutMix - with image, target and valid mask always moved together.
- `dgcl_nb.widgets.explorer`: Pixel features as a picture to be asked: sliders for density and confidence, neighbours, a lasso that marks pixels in their images, and clusters seen forming.
- `dgcl_nb.widgets.front`: What all views in the browser share: labelled controls, packed arrays, a colour scale, and a page that needs no kernel.
- `dgcl_nb.widgets.monitor`: A run that is watched while it trains: curves, images and feature clusters that move, sliders that stay alive, and buttons that are obeyed within one step.
- `dgcl_nb.widgets.overlay`: Maps over images: any two layers of a snapshot side by side, with sliders that never wait for Python.
- `dgcl_nb.widgets.state`: The points of a feature explorer as plain arrays: which are shown, where they lie in their images, who their neighbours are."""

__version__ = "0.1.0"
