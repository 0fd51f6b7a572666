import ArgumentParser
import Consensus
import Coordination
import Digests
import Foundation
import Node
import Primitives
import Record
import Wire

/// `atoll recovery`: several people found a job anew, where the key that launched it is lost, too. `docs/ELECTORS.md` tells it.
struct RecoveryCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "recovery", abstract: "Recovery keys: who may found a job anew in the place of its launcher.",
        discussion: """
            A job file names keys (`recovery: {needed: 2, keys: [KEY, KEY, KEY]}`). When a majority of its electors is lost, and the launcher with its \
            key, somebody makes a request from the job's log; owners of keys sign it, one after the other; and whom it names runs \
            `atoll launch JOB --invite FILE --refound --recovery REQUEST`.
            """,
        subcommands: [Key.self, Request.self, Sign.self, Show.self])

    /// What has been signed, for whoever launches.
    static func grant(_ path: String, for founder: PeerID) throws -> RecoveryGrant {
        let file = try read(path)
        let claim = file.grant.claim
        guard claim.founder == founder else {
            throw NodeError.badInput(
                "\(path): it is for \(claim.founder.hex), and this machine's launcher is \(founder.hex). Choose it with --identity, or "
                    + "make a request for this one")
        }
        guard file.missing == 0 else {
            throw NodeError.badInput(
                "\(path): \(file.grant.signatures.count) of \(file.keys.keys.count) recovery keys have signed, and \(file.keys.needed) have "
                    + "to. Pass it on: atoll recovery sign \(path) --key KEYFILE")
        }
        return file.grant
    }
    private static func read(_ path: String) throws -> RecoveryFile {
        let bytes = try readFile(path, limit: 1 << 20)
        guard let text = String(bytes: bytes, encoding: .utf8) else {
            throw NodeError.badInput("\(path): not text; a request is made by `atoll recovery request`")
        }
        do throws(MalformedBytes) {
            return try RecoveryFile(parsing: text)
        } catch {
            throw NodeError.badInput("\(path): \(error.description). A request is made by `atoll recovery request`")
        }
    }

    private static func show(_ file: RecoveryFile) {
        let claim = file.grant.claim
        print(
            """
            job        \(claim.job.hex)
            asked      \(claim.founder.hex) founds it anew: era \(claim.era), after at least its \(claim.size) entries that are certified
                       (root \(claim.root.hex))
            """)
        for key in file.keys.keys {
            print("key        \(key.hex)\(file.grant.signers.contains(key) ? "  has signed" : "")")
        }
        print(
            file.missing == 0
                ? "enough     \(file.grant.signatures.count) of \(file.keys.keys.count) have signed, \(file.keys.needed) had to"
                : "missing    \(file.missing) more of \(file.keys.keys.count): \(file.keys.needed) have to sign")
    }

    struct Key: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make a recovery key, and print what a job file names.")
        @Argument(help: "Where the secret goes (mode 0600). Keep a copy off this machine.") var file: String

        func run() throws {
            guard !FileManager.default.fileExists(atPath: file) else {
                throw NodeError.badInput("\(file) is there already, and is not overwritten")
            }
            print(try DataFolder.loadKey(file).peerID.hex)
        }
    }

    struct Request: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Ask owners of recovery keys: from a job's log, for whoever shall found it anew.")
        @Argument(help: "The job's log with its certificate beside it: DATA/log/JOB of a peer.") var log: String
        @Option(help: "The launcher's key of whoever founds it anew: 64 hexadecimal digits.") var founder: String?
        @Option(help: "Or that launcher's folder, where it is on this machine (made where there is none).")
        var identity: String?
        @Option(help: "Where the request goes.") var out: String

        func run() throws {
            let founder = try founderKey()
            let certificate = try readFile(log + LogFile.certificateSuffix)
            let verdict = LogVerifier.verify(
                log: try readFile(log), certificate: certificate, parse: JobParameters.init(manifest:))
            guard let record = verdict.record, let proof = verdict.certificate else {
                throw NodeError.badInput(
                    "\(log) has no certificate that holds: \(verdict.fault?.why ?? "nothing is certified"). `atoll verify \(log)` says more"
                )
            }
            guard let keys = record.parameters.recovery else {
                throw NodeError.badInput(
                    "job \(record.job.short) names no recovery keys: only \(record.root.hex) may found it anew")
            }
            let claim = RecoveryClaim(
                job: record.job, era: record.era(at: proof.claim.size) + 1, size: proof.claim.size,
                root: proof.claim.root,
                founder: founder)
            let file = RecoveryFile(RecoveryGrant(claim), keys)
            try writeFile(out, Array(file.text.utf8))
            RecoveryCommand.show(file)
        }
        private func founderKey() throws -> PeerID {
            if let identity { return try DataFolder(identity).key.peerID }
            guard let founder else {
                throw NodeError.badInput(
                    "say who founds the job anew: --founder KEY, or --identity DIR of a launcher here")
            }
            guard let key = PeerID(hex: founder) else {
                throw NodeError.badInput("--founder \(founder): a launcher's key has 64 hexadecimal digits")
            }
            return key
        }
    }

    // MARK: signing

    struct Sign: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Sign a request with a recovery key: it is written back.")
        @Argument(help: "The request.") var file: String
        @Option(help: "The recovery key's file.") var key: String

        func run() throws {
            var request = try RecoveryCommand.read(file)
            guard FileManager.default.fileExists(atPath: key) else {
                throw NodeError.badInput("there is no \(key); a key is made by `atoll recovery key`")
            }
            let owner = try DataFolder.loadKey(key)
            do throws(MalformedBytes) {
                try request.sign(by: owner)
            } catch {
                throw NodeError.badInput("\(key): \(error.description)")
            }
            try writeFile(file, Array(request.text.utf8))
            RecoveryCommand.show(request)
        }
    }

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "What a request asks for, and who has signed.")
        @Argument(help: "The request.") var file: String
        func run() throws { RecoveryCommand.show(try RecoveryCommand.read(file)) }
    }
}
