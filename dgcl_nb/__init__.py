"""Density-guided semi-supervised semantic segmentation (DGCL, CVPR 2023), as notebooks that train, explain and show themselves

Modules:

- `dgcl_nb.bank`: One ring of remembered pixels per class: what density is measured against, and where positives from other images come from.
- `dgcl_nb.batches`: Which images a step sees, and what it holds of them: a pure function of the seed and the step, so that nothing has to be remembered.
- `dgcl_nb.bench`: One command trains every method with every seed and writes one table: `python -m dgcl_nb.bench`.
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
- `dgcl_nb.looking.html`: Elements, tables and numbers of a page, escaped where they must be.
- `dgcl_nb.looking.layout`: From feature vectors to points on a screen: a PCA view at once, UMAP over the exact neighbours of the density, and one layout over time that an eye can follow.
- `dgcl_nb.looking.live_layout`: A picture of feature clusters that does not jump when a snapshot comes: by the principal plane at once, by UMAP beside.
- `dgcl_nb.looking.report_density`: The sampled cells of a run, sorted by density: their wrong pseudo-labels in a table, in two figures and in two sentences.
- `dgcl_nb.looking.report_figures`: Curves, clusters and predictions of one run, or of two side by side, as figures that a page draws by itself.
- `dgcl_nb.looking.report_page`: One file of HTML, light or dark as the reader's system is, and printable: its frame, its look, and what it does by itself.
- `dgcl_nb.looking.report_tables`: Scores, classes and settings of one run, or of two side by side, as tables of a page.
- `dgcl_nb.looking.report_views`: The overlay and the explorer of the notebook in a page without a kernel, with as much of a run as fits.
- `dgcl_nb.looking.run_state`: What a run is doing right now, in a word and a sentence: from its folder, and from the `Fitting` if training is in this process.
- `dgcl_nb.looking.runs`: Reading a run folder: finished, half-copied, or being written at this moment by another process.
- `dgcl_nb.looking.scores`: What a run folder says of itself in words and numbers: what ran, what is missing, how good it became.
- `dgcl_nb.looking.static`: JavaScript and CSS in files of their own: joined into one module for a notebook or an offline page, and shown in lessons.
- `dgcl_nb.looking.watcher`: All of the monitor but its widgets: each look at a run folder reads what is new and says what is to be shown.
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
- `dgcl_nb.train`: One command trains a method and leaves a run folder: `python -m dgcl_nb.train`.
- `dgcl_nb.views`: What a network is shown of an image: the weak view, the strong view, and CutMix - with image, target and valid mask always moved together.
- `dgcl_nb.widgets.explorer`: Pixel features as a picture to be asked: sliders for density and confidence, neighbours, a lasso that marks pixels in their images, and clusters seen forming.
- `dgcl_nb.widgets.front`: What all views in the browser share: labelled controls, packed arrays, a colour scale, and a page that needs no kernel.
- `dgcl_nb.widgets.maps`: From the snapshots of a run to the maps of a view: the same images at every step, values as whole numbers, and what is not known.
- `dgcl_nb.widgets.monitor`: A run that is watched while it trains: curves, images and feature clusters that move, sliders that stay alive, and buttons that are obeyed within one step.
- `dgcl_nb.widgets.overlay`: Maps over images: any two layers of a snapshot side by side, with sliders that never wait for Python.
- `dgcl_nb.widgets.scene`: What the feature explorer draws: the points of all steps in one value, and the parts of the page that choose, colour, draw and find them.
- `dgcl_nb.widgets.state`: The points of a feature explorer as plain arrays: which are shown, where they lie in their images, who their neighbours are."""

__version__ = "0.1.0"
