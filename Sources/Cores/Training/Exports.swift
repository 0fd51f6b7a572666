// Whoever imports the arithmetic of a stage means its jobs and answers too.
@_exported public import Compute
