"""Density-guided semi-supervised semantic segmentation (DGCL, CVPR 2023), as notebooks that train, explain and show themselves

Modules:

- `dgcl_nb.acquisition`: Which unlabelled images are worth a person's time: five scores, from chance to what is sparse, uncertain and unlike the rest.
- `dgcl_nb.audit`: `python -m dgcl_nb.audit RUN`: which masks are wrong? Images and regions in order, a page to look at, proposals to copy, and an exit status.
- `dgcl_nb.audit_page`: One file, no network: each suspicious image with its mask, what the witness says instead, and the command that accepts the proposal.
- `dgcl_nb.audited`: Which images an audit looks at, which of their masks the network has seen, what all witnesses say of them, and the file that mends one.
- `dgcl_nb.background`: A run in a thread of its own, while the notebook stays alive.
- `dgcl_nb.bank`: One ring of remembered pixels per class: what density is measured against, and where positives from other images come from.
- `dgcl_nb.batch_colours`: The strong views of a whole batch at once, each image with its own draw, on whatever device the batch lies.
- `dgcl_nb.batches`: Which images a step sees, and what it holds of them: a pure function of the seed and the step, so that nothing has to be remembered.
- `dgcl_nb.bench`: One command trains every method with every seed and writes one table: `python -m dgcl_nb.bench`.
- `dgcl_nb.boxes`: How the methods of the field cut and paste: five rules for the boxes of CutMix, each drawn first and turned into masks afterwards.
- `dgcl_nb.cells`: A batch as rows: one for each cell of the feature maps, sorted by class, with everything that a method with a memory bank asks of it.
- `dgcl_nb.checkpoints`: What a run that died needs to go on as if it had not: written whole or not at all, in the background, and checked before it is read.
- `dgcl_nb.colours`: What changes the colours of an image of bytes: hue, blur, and what is drawn for one strong view.
- `dgcl_nb.config`: A whole run as one frozen object, and the presets that a researcher edits.
- `dgcl_nb.consistency`: Two predictions of the same pixels shall agree: how far apart they are, over which pixels the mean is taken, and how the term's weight grows.
- `dgcl_nb.contrast`: Sparse cells are pulled to the dense middle of their class, and pushed away from other classes: the third term, for all classes of a step at once.
- `dgcl_nb.core`: The few things that every room needs: the words and letters of the code, errors, seeds, one collective, and what the machine has.
- `dgcl_nb.data.archives`: A data set fetched from where it is published: its terms agreed to, its folders taken, and nothing else unpacked.
- `dgcl_nb.data.camvid`: Street scenes from four drives of one car, 11 classes and none of them background; frames of one drive resemble each other.
- `dgcl_nb.data.check`: What is there, what is missing, and which files are bad: every file is read once, before a run meets it.
- `dgcl_nb.data.cityscapes`: Streets of 50 towns: label ids are mapped to the 19 scored classes on reading, and no class is background.
- `dgcl_nb.data.damage`: Masks that are wrong in ways people get them wrong, on purpose and with a list of what was done: the ground truth of an audit.
- `dgcl_nb.data.digits`: The embedded data set: real handwriting over real photographs, rendered in seconds, the same on every machine that runs the same libraries.
- `dgcl_nb.data.drawn`: What was drawn in CVAT or label-studio becomes the masks of a folder of one's own, checked before a single one is written.
- `dgcl_nb.data.files`: What lies in a folder, before a list says what is labelled; and what all layouts share.
- `dgcl_nb.data.folder`: Photographs, masks for some of them, and a text file of class names: no list is needed.
- `dgcl_nb.data.images`: One photograph, one mask, and the pair of them: read, checked, and never guessed.
- `dgcl_nb.data.neu_seg`: Photographs of rolled steel with three kinds of defects, most of each image background; the images that are scored are a committed list.
- `dgcl_nb.data.proposal`: From what is seen of a data set and of a machine to settings for a first run, each with its reason.
- `dgcl_nb.data.published`: Whose list is this, how good are its labels, and what must a result on it not be compared with?
- `dgcl_nb.data.segdata`: Three sets of images and five facts: what training sees of any source.
- `dgcl_nb.data.sets`: One setting names the data set; everything behind it is the same for all.
- `dgcl_nb.data.splits`: Which images are labelled, which are not, and on which we score: lists that are read, drawn, kept apart and found by name.
- `dgcl_nb.data.voc`: The fine masks of VOC and the coarse ones of SBD, merged to the 10 582 training images that the field uses, and checked to be those.
- `dgcl_nb.data_flow`: Boxes and arrows: what flows where in a step, what learns, and where gradients end.
- `dgcl_nb.deep_cells`: As many cells as one wants of a finished run: its network is asked again, and its explorer gets hundreds of thousands.
- `dgcl_nb.density`: How crowded is the place in feature space where a pixel lies? Exact multi-scale nearest-neighbour density, at little more than the price of one matrix product.
- `dgcl_nb.device`: What crosses between the processor that gives orders and the device that computes, without either waiting for the other.
- `dgcl_nb.disagreement`: What speaks against the label of a cell: its neighbours in feature space, or the network's own probabilities.
- `dgcl_nb.dry_run`: What a run would cost, before it costs anything: `python -m dgcl_nb.train --dry-run`.
- `dgcl_nb.encoders`: From images to maps: which of timm's networks can carry a decoder, how fine their grids are, and how a plain transformer gives maps at all.
- `dgcl_nb.endings`: A script reads the exit status, a person the one line above the prompt: every command gives both alike.
- `dgcl_nb.engine`: The loop: fetch, losses, step, after_step; once in a while it evaluates, shows itself and saves.
- `dgcl_nb.evaluate`: A run scored again, by any protocol and on any data of its classes: `python -m dgcl_nb.evaluate RUN`.
- `dgcl_nb.evaluation`: A network scored on a data set: every image once, by one process or by many, with the protocol in the output and the network as it was before.
- `dgcl_nb.explore`: The feature explorer for any segmentation network, for a run, and for two: in a notebook, and as a page that needs nothing.
- `dgcl_nb.finite`: A run whose numbers have left the real ones stops before anything is written of them, and says from where it can go on.
- `dgcl_nb.flaws`: Where is a prediction wrong, on an image that nobody has labelled? Maps of flaws, the network that learns to draw them, and the trade between two networks that they make possible.
- `dgcl_nb.folds`: Masks judged out of fold: the run is trained again without some of its masks, and asked about just those.
- `dgcl_nb.forwards`: How many images does one step of a method send through an encoder, with a gradient and without?
- `dgcl_nb.help`: What the commands answer to `--help`, at once: texts that were written before, from the settings and their comments.
- `dgcl_nb.jobs`: Many training runs as child processes: what is there already, what is missing, and what went wrong.
- `dgcl_nb.look`: What a method makes of a few images while it trains: the one question that snapshots, widgets and reports ask of every method.
- `dgcl_nb.looking.changes`: The same cells in both runs, joined: which became right, which became wrong, and where density rose or fell.
- `dgcl_nb.looking.clusters`: Features as points in a plane: coloured by class or by a value, and two runs side by side with their scores.
- `dgcl_nb.looking.collect`: A hook on one layer of a PyTorch network: its feature map, or its tokens, brought to one grid with labels, predictions and images.
- `dgcl_nb.looking.curves`: Do the losses fall, are the pseudo-labels worth learning from, and does the score follow?
- `dgcl_nb.looking.demo_run`: The folder of a run that never was: real scenes, invented maps, features, curves and scores.
- `dgcl_nb.looking.density_claim`: Are sparse features under-trained? Numbers only: bins of density, sparse against dense at equal confidence, and how sure the answer is.
- `dgcl_nb.looking.density_figures`: Density by class before and after, and the test of the claim about sparse features as a figure.
- `dgcl_nb.looking.features`: Features that were taken from a segmentation network of whatever kind: a balanced sample of cells, the density of each among the cells of its class, and one file that holds them.
- `dgcl_nb.looking.figures`: What all figures have in common - ground, text, colours, names of classes - and how a figure becomes a picture.
- `dgcl_nb.looking.given`: What people hand over to have features looked at: options, batches, labels, names and colours; each is read, or refused in one sentence.
- `dgcl_nb.looking.html`: Elements, tables and numbers of a page, escaped where they must be.
- `dgcl_nb.looking.layout`: From feature vectors to points on a screen: a PCA view at once, and UMAP over the exact neighbours of the density.
- `dgcl_nb.looking.layout_time`: One layout for all snapshots of a run, live or afterwards, that an eye can follow.
- `dgcl_nb.looking.live_layout`: A picture of feature clusters that does not jump when a snapshot comes: by the principal plane at once, by UMAP beside.
- `dgcl_nb.looking.panels`: What is there to draw of a run, what is each of it called, and what does it say?
- `dgcl_nb.looking.report_density`: The sampled cells of a run, sorted by density: their wrong pseudo-labels in a table, in two figures and in two sentences.
- `dgcl_nb.looking.report_figures`: Curves, clusters and predictions of one run, or of two side by side, as figures that a page draws by itself.
- `dgcl_nb.looking.report_page`: One file of HTML, light or dark as the reader's system is, and printable: its frame, its look, and what it does by itself.
- `dgcl_nb.looking.report_tables`: Scores, classes and settings of one run, or of two side by side, as tables of a page.
- `dgcl_nb.looking.report_views`: The overlay and the explorer of the notebook in a page without a kernel, with as much of a run as fits.
- `dgcl_nb.looking.run_files`: Logs, settings and snapshots that grow, change and break while they are looked at.
- `dgcl_nb.looking.run_state`: What a run is doing right now, in a word and a sentence: from its folder, and from the `Fitting` if training is in this process.
- `dgcl_nb.looking.runs`: Reading a run folder: finished, half-copied, or being written at this moment by another process.
- `dgcl_nb.looking.scores`: What a run folder says of itself in words and numbers: what ran, what is missing, how good it became.
- `dgcl_nb.looking.static`: JavaScript and CSS in files of their own: joined into one module for a notebook or an offline page, and shown in lessons.
- `dgcl_nb.looking.tiles`: Label maps in the colours of a palette, and images with the predictions of several runs side by side.
- `dgcl_nb.looking.watcher`: All of the monitor but its widgets: each look at a run folder reads what is new and says what is to be shown.
- `dgcl_nb.losses`: Two terms: learn from labels, and learn from pseudo-labels.
- `dgcl_nb.machine`: How much memory and how many cores this process may use.
- `dgcl_nb.methods.cct`: Cross-consistency training: small auxiliary decoders see disturbed features and must say what the main decoder says of the undisturbed ones.
- `dgcl_nb.methods.cps`: Two networks that begin apart, and each learns what the other says.
- `dgcl_nb.methods.cutmix`: Where a pixel's surroundings give its class away, take them away: a box of one image in another, and the teacher's soft answers cut along the same lines.
- `dgcl_nb.methods.dgcl`: Density-guided contrastive learning: features that are confident but lie in sparse regions of their class are pulled to where the class is dense.
- `dgcl_nb.methods.fixmatch`: What a network is certain of on a weak view it must find again on a strong view of the same image: no teacher, one threshold.
- `dgcl_nb.methods.gct`: Two networks and a detector of flaws: each network learns from the other where the detector finds the other better, and both mend what it finds bad in both.
- `dgcl_nb.methods.gta_seg`: An assistant learns from pseudo-labels, wrong ones among them; the student takes over its weights slowly, and learns from the truth only.
- `dgcl_nb.methods.mean_teacher`: Say of a disturbed image what an average over your past says of the image itself: agreement of soft predictions, without a label and without a threshold.
- `dgcl_nb.methods.pcr`: Two classifiers read the same features, a trained linear head and prototypes that are averages of what was seen: both shall find each pixel's class.
- `dgcl_nb.methods.protocol`: What the loop asks of a method, and the plain functions that every method's step is made of: supervised, label, joint_pass, unsupervised, note_labels.
- `dgcl_nb.methods.ps_mt`: Two teachers that began differently and move in turn label; the student learns from them with its features pushed to where they are weakest.
- `dgcl_nb.methods.self_training`: A teacher's filtered labels on mixed images, and nothing else: the step to read first, and the baseline inside DGCL.
- `dgcl_nb.methods.supervised`: The baseline that every other method must beat: labelled images, nothing else.
- `dgcl_nb.methods.u2pl`: Pixels whose pseudo-label cannot be trusted are used as negatives of the classes that they surely are not.
- `dgcl_nb.methods.unimatch`: FixMatch with more to survive: two strong views at once, and a stream in which features, not colours, are taken away.
- `dgcl_nb.metrics`: What a run is judged by: mIoU over the whole set, how tight the classes lie in feature space, and how good the pseudo-labels are.
- `dgcl_nb.mixes`: Two other ways to make a strong view of two images: paste whole classes instead of a box, or cut a box out.
- `dgcl_nb.model`: From images to four maps: class scores, features, projections and, on request, auxiliary scores; with a door between encoder and decoder, and the teacher that follows.
- `dgcl_nb.negatives`: Unreliable pixels as negatives: which cells pull, which are pulled, and which tell a class what it is not.
- `dgcl_nb.onnx_export`: A network as a file that other programs run, with its normalisation inside and a proof that it says the same.
- `dgcl_nb.optim`: How parameters are moved: which optimiser, at which rate, and when.
- `dgcl_nb.page`: A comparison as one HTML page: tables and plots, nothing fetched, every text escaped.
- `dgcl_nb.perturbations`: Seven ways to disturb a feature map, six of them by chance and one in the worst direction: what a second decoder has to see through.
- `dgcl_nb.plan`: From a command line to jobs: which rows, how many seeds, and what each run's own command line is.
- `dgcl_nb.plots`: A comparison in three pictures: scores with their spread, scores against compute, clusters.
- `dgcl_nb.predict`: The network of a run, put to work on pictures of your own: `python -m dgcl_nb.predict RUN FOLDER --out OUT`.
- `dgcl_nb.prediction`: What the network of a run says of an image, from wherever the image comes: labels, confidence, and four pictures of them.
- `dgcl_nb.presets`: A preset is for the data that it was made for; others must be asked for by name.
- `dgcl_nb.processes`: What differs on a GPU, and with several processes: the device, its arithmetic, what the ranks agree on, and what becomes of one that loses the others.
- `dgcl_nb.prototypes`: A class as a few points in feature space: which pixel is nearest to which, how the points follow, where they begin, and which pixels are asked.
- `dgcl_nb.pseudo_labels`: What a network believes of an unlabelled pixel, how sure it is, and how many of these beliefs may be used as labels.
- `dgcl_nb.ranges`: What a setting may be stands beside the setting, and one function checks all of them before anything is built.
- `dgcl_nb.reference`: What the labelled images look like to a trained network: their cells as class banks, and how near to each bank a cell of any image lies.
- `dgcl_nb.removed`: A setting that did not keep its promise goes; the runs that had it are read as before.
- `dgcl_nb.report`: A run on one page that needs no network, no kernel and no Python: `python -m dgcl_nb.report runs/x`.
- `dgcl_nb.result`: What a finished run claims: reading `result.json`, whatever version wrote it.
- `dgcl_nb.resuming`: What a run may change when it goes on, and where every change is written down.
- `dgcl_nb.rows`: What a table compares: methods by name, all of them, an ablation, a search, or rows of one's own.
- `dgcl_nb.run_folder`: Files that are whole or absent, sealed with a checksum, and the folder in which a run keeps them.
- `dgcl_nb.sampling`: Which pixels pull and which are pulled: anchors, positives and negatives of the contrastive loss, chosen by density, by confidence or by chance.
- `dgcl_nb.saved`: A checkpoint is checked before a run goes back to it: what must be there, of which kind, and whether it fits this run's optimisers.
- `dgcl_nb.search`: One small search of equal budget for every method, reported whole.
- `dgcl_nb.sections`: One section of a file of presets is written or replaced; every other byte of the file stays.
- `dgcl_nb.settings`: From lines of text to a frozen object: sections of `settings.ini`, flags, and the way back from `config.json`.
- `dgcl_nb.snapshot_schema`: What a snapshot is: which arrays it holds, of which type, shape and values, and how those of a file are checked.
- `dgcl_nb.snapshots`: What a run shows of itself: small files that hold a few images and some thousand pixels, for every viewer to read.
- `dgcl_nb.store`: Finished runs, small enough to be committed: a run that some machine has made is not made again.
- `dgcl_nb.suggest`: Which images to annotate next: `python -m dgcl_nb.suggest RUN [FOLDER] --num 20`.
- `dgcl_nb.suggestions`: What leaves the machine when images were chosen for annotation: a table, a page to look at, lists for the next run, tasks for label-studio and CVAT.
- `dgcl_nb.suspects`: From single cells to what a person can look at: regions with a proposed class, images in order, a mask to accept or reject, and how to tell whether the order is any good.
- `dgcl_nb.tables`: From the results of many runs to one table: mean and spread over seeds, and paired differences to the best baseline.
- `dgcl_nb.targets`: What the authors published, and whether methods come in the same order here.
- `dgcl_nb.teacher`: A copy of the network that follows it slowly: an average over its past, which labels what the network has to learn.
- `dgcl_nb.terminal`: The log of a run as a table that fits on a screen, each reason said once, and a hint where figures would mislead.
- `dgcl_nb.timing`: Named parts of a step, timed where they happen, and free where nobody asks.
- `dgcl_nb.traffic`: The bytes that each of several processes hands over in a step, as a function of processes, classes and batch.
- `dgcl_nb.train`: One command trains a method and leaves a run folder: `python -m dgcl_nb.train`.
- `dgcl_nb.trained`: A run folder opened again: its settings, its weights, and its networks ready to be asked.
- `dgcl_nb.training`: A run under way: where it stands, who watches it, what one step does, and what it logs.
- `dgcl_nb.typed_files`: Whatever comes from a file is checked before it is believed: its size, its encoding, its depth, the types and ranges of its values.
- `dgcl_nb.views`: What a network is shown of an image: the weak view, the strong view, and CutMix - with image, target and valid mask always moved together.
- `dgcl_nb.weights`: First weights for an encoder: read without running anything, matched with a report of what did not fit, and at hand without a network.
- `dgcl_nb.whole_images`: How an image of any size gets into the small maps of a snapshot: whole, scaled down, and with values that the network really gave.
- `dgcl_nb.widgets.explorer`: Pixel features as a picture to be asked: sliders for density and confidence, neighbours, a lasso that marks pixels in their images, and clusters seen forming.
- `dgcl_nb.widgets.front`: What all views in the browser share: labelled controls, packed arrays, a colour scale, and a page that needs no kernel.
- `dgcl_nb.widgets.maps`: From the snapshots of a run to the maps of a view: the same images at every step, values as whole numbers, and what is not known.
- `dgcl_nb.widgets.monitor`: A run that is watched while it trains: curves, images and feature clusters that move, sliders that stay alive, and buttons that are obeyed within one step.
- `dgcl_nb.widgets.overlay`: Maps over images: any two layers of a snapshot side by side, with sliders that never wait for Python.
- `dgcl_nb.widgets.scene`: What the feature explorer draws: the points of all steps in one value, and the parts of the page that choose, colour, draw and find them.
- `dgcl_nb.widgets.state`: The points of a feature explorer as plain arrays: which are shown, where they lie in their images, who their neighbours are.
- `dgcl_nb.widgets.stills`: What remains of a view when its kernel is gone: a small picture in the notebook itself.
- `dgcl_nb.windows`: What a network says of a whole image: at once or in sliding windows, at several sizes and mirrored on request, always at the original resolution.
- `dgcl_nb.writer`: A file of a moment, written while the run goes on."""

__version__ = "0.1.0"

import sys


def _tell(kind, error, trace):
    "Ctrl-C while a command is still importing is no fault of the program: a word, and no page."
    if issubclass(kind, KeyboardInterrupt):
        print("stopped", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


# so is the name of the program while Python looks for the module of `python -m dgcl_nb.train`
if sys.argv[:1] == ["-m"]:
    sys.excepthook = _tell
