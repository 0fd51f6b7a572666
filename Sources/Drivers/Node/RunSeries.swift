import Foundation
package import Primitives
package import Telemetry
import Wire

/// `rounds.csv` and TensorBoard's file in a run's folder: a row and a record for each sealed round, as soon as it is sealed, so that there is
/// something to look at while the job runs and when it does not end well.
///
/// They are figures for people: what cannot be written is said once, and the job goes on.
package final class RunSeries {
    private let origin: Instant
    private var table: Int32 = -1
    private var board: Int32 = -1
    /// Rounds before are in the folder already, and some of them may be trained again.
    private var continues: Bool

    /// - Parameters:
    ///   - continuing: the job goes on after an earlier process: its rows stay.
    ///   - origin: `at_s` is counted from here.
    package init(in out: String, continuing: Bool, origin: Instant) {
        self.origin = origin
        continues = continuing
        let path = out + "/rounds.csv"
        table = open(path, continuing ? O_APPEND : O_TRUNC)
        if table >= 0, lseek(table, 0, SEEK_END) == 0 { write(Array(RoundTable.header.utf8), &table, path) }
        let folder = out + "/tensorboard"
        if !continuing { Self.forget(folder) }
        try? FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        // TensorBoard reads a folder's files in the order of their names, which is that of these seconds.
        let name = "\(folder)/events.out.tfevents.\(time(nil)).atoll"
        board = open(name, O_APPEND)
        if board >= 0 { write(TensorBoardFile.beginning(at: Self.now), &board, name) }
    }
    deinit { close() }
    package func close() {
        if table >= 0 { Glibc.close(table) }
        if board >= 0 { Glibc.close(board) }
        (table, board) = (-1, -1)
    }

    /// What an event changed in the view, which has it already.
    package func note(_ event: Event, _ view: JobView) {
        switch event.what {
        case .roundSealed:
            if let round = view.rounds.last { append(round) }
        // Where the job ends with its last checkpoint, nothing is trained again.
        case .rolledBack(_, .some, _):
            write(TensorBoardFile.undone(from: view.progress.step + 1, at: Self.now), &board, "TensorBoard's file")
        default: break
        }
    }

    private func append(_ round: JobView.Round) {
        write(Array(RoundTable.row(round, since: origin).utf8), &table, "rounds.csv")
        var records: [UInt8] = []
        if continues {
            // What was sealed here after the round from which the job goes on is done again.
            records += TensorBoardFile.undone(from: max(0, round.stepsDone - round.steps) + 1, at: Self.now)
            continues = false
        }
        for step in Set(round.scalars.map(\.step)).sorted() {
            let here = round.scalars.filter { $0.step == step }.map { (tag: $0.tag, value: $0.value) }
            records += TensorBoardFile.scalars(here, step: step, at: Self.now)
        }
        write(records, &board, "TensorBoard's file")
    }

    private static var now: Double { Date().timeIntervalSince1970 }

    /// Files of another run, by the name that they have here.
    private static func forget(_ folder: String) {
        for name in (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        where name.hasPrefix("events.out.tfevents.") && name.hasSuffix(".atoll") {
            unlink(folder + "/" + name)
        }
    }

    private func open(_ path: String, _ flag: Int32) -> Int32 {
        let file = Glibc.open(path, O_WRONLY | O_CREAT | O_CLOEXEC | flag, 0o644)
        if file < 0 { Self.complain(path, errno) }
        return file
    }
    private func write(_ bytes: [UInt8], _ file: inout Int32, _ path: String) {
        guard file >= 0, !bytes.isEmpty else { return }
        let written = bytes.withUnsafeBytes { Glibc.write(file, $0.baseAddress, $0.count) }
        guard written != bytes.count else { return }
        Self.complain(path, written < 0 ? errno : ENOSPC)
        Glibc.close(file)
        file = -1
    }
    private static func complain(_ path: String, _ problem: Int32) {
        let text = "atoll: \(path) is not written any more: \(String(cString: strerror(problem))). The job goes on\n"
        FileHandle.standardError.write(Data(text.utf8))
    }
}
