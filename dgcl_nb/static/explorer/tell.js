// Values that the user sets.

// Sets a value of the model, and lets Python know.
export function tell(model, name, value) {
  model.set(name, value);
  model.save_changes();
}
