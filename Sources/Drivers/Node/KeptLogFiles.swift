public import Consensus
import Digests
import Foundation
public import Membership
public import Primitives
public import Record
import Wire

/// Logs with a certificate that lie in a folder.
extension JobArchive {
    /// Nil where none lies beside the log, or none that can be read.
    package static func certificate(of job: Digest256, in folder: String) -> Certificate? {
        let format = Array(LogFile.certificateFormat.utf8)
        guard let bytes = try? readFile(LogFile.path(folder, job) + LogFile.certificateSuffix),
            bytes.starts(with: format)
        else { return nil }
        return try? Certificate(encoded: Array(bytes[format.count...]))
    }

    /// The newest few of jobs that several electors carry and that are not over: what an earlier process knows of them stays true.
    public static func keptLogs(in folder: DataFolder, parse: Record.Parser) -> [KeptLog] {
        let logs = folder.path + "/log"
        let names = ((try? FileManager.default.contentsOfDirectory(atPath: logs)) ?? []).filter { $0.count == 64 }
        func modified(_ name: String) -> Date {
            let attributes = try? FileManager.default.attributesOfItem(atPath: logs + "/" + name)
            return attributes?[.modificationDate] as? Date ?? .distantPast
        }
        var out: [KeptLog] = []
        for name in names.sorted(by: { (modified($0), $0) > (modified($1), $1) }) where out.count < 4 {
            guard let bytes = [UInt8](hex: name), let job = Digest256(bytes),
                let certificate = certificate(of: job, in: folder.path), let log = try? read(folder.path, job: job),
                let kept = KeptLog(log, certificate, parse: parse), kept.job == job,
                kept.record.parameters.isCarriedByMany, kept.record.state.finished == nil
            else { continue }
            out.append(kept)
        }
        // The newest last.
        return out.reversed()
    }
}
