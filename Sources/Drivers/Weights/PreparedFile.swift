import Files
import Foundation

/// A file that is complete on disk under a name of its own, and takes the place of another when told to.
struct PreparedFile {
    private let path: String
    private let temporary: String

    /// Lets `body` fill it; on failure it is removed.
    init(_ path: String, _ body: (FileWriter) -> Void) throws(TensorFileError) {
        self.path = path
        temporary = path + ".partial-\(getpid())"
        do throws(FileError) {
            guard !isFolder(path) else { throw FileError(path: path, problem: String(cString: strerror(EISDIR))) }
            let file = try FileWriter(temporary)
            body(file)
            try file.finish()
        } catch {
            discard()
            throw .unwritable(path: path, problem: error.problem)
        }
    }

    /// Takes the place of what has the name.
    func replace() throws(TensorFileError) {
        do throws(FileError) {
            guard rename(temporary, path) == 0 else { throw FileError(path: path, problem: lastProblem()) }
            let parent = (path as NSString).deletingLastPathComponent
            try synchroniseFolder(parent.isEmpty ? "." : parent)
        } catch {
            discard()
            throw .unwritable(path: path, problem: error.problem)
        }
    }

    func discard() { unlink(temporary) }
}
