import Foundation
import Node

/// Commands to a daemon as hints name them: with its folder, where they would find another daemon without, or none.
struct OwnCommand {
    /// As it is typed: `--data ~/.atoll/peer-2`; nil where nothing has to be added.
    let choice: String?
    /// Also commands that ask all daemons of this user: this one is not among them.
    private let isElsewhere: Bool

    static let plain = OwnCommand(choice: nil, isElsewhere: false)

    private init(choice: String?, isElsewhere: Bool) { (self.choice, self.isElsewhere) = (choice, isElsewhere) }

    /// - Parameters:
    ///   - folder: of the daemon.
    ///   - folders: where this user's daemons are looked for.
    ///   - isBusy: whether a daemon has a folder.
    init(
        to folder: String, among folders: [String] = DaemonChoice.usual, isBusy: (String) -> Bool = DataFolder.isBusy
    ) {
        func resolved(_ path: String) -> String { URL(fileURLWithPath: path).resolvingSymlinksInPath().path }
        let own = resolved(folder)
        let others = folders.filter { resolved($0) != own }
        isElsewhere = others.count == folders.count
        let isAlone = !isElsewhere && !others.contains(where: isBusy)
        choice = isAlone ? nil : "--data " + Self.typed(folder)
    }
    /// As a shell takes it.
    private static func typed(_ folder: String) -> String {
        let home = ProcessInfo.processInfo.environment["HOME"] ?? ""
        let isPlain = folder.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "/._-+:@,".contains($0)) }
        guard isPlain else { return "'" + folder.replacing("'", with: "'\\''") + "'" }
        return home.count > 1 && folder.hasPrefix(home + "/") ? "~" + folder.dropFirst(home.count) : folder
    }

    /// What a text says of commands, as they have to be typed.
    func named(_ text: String) -> String {
        guard let choice else { return text }
        return text.replacing(#/`atoll ([a-z]+)( [^`]*)?`/#) { match in
            let (verb, rest) = (String(match.1), match.2.map(String.init) ?? "")
            let isMeant =
                Self.toOne.contains(verb) || verb == "limits" && rest.hasPrefix(" set")
                || isElsewhere && Self.toAll.contains(verb)
            return isMeant && !rest.contains("--data") ? "`atoll \(verb)\(rest) \(choice)`" : String(match.0)
        }
    }
    private static let toOne: Set = ["pause", "resume", "drain", "leave"]
    private static let toAll: Set = ["status", "top", "why", "limits", "receipts", "doctor"]
}

/// The same for a screen that is drawn once a second: who runs is looked at now and then.
final class OwnCommandWatch {
    private let folder: String
    private var known: (command: OwnCommand, at: Date)?
    init(folder: String) { self.folder = folder }

    var now: OwnCommand {
        if let known, Date().timeIntervalSince(known.at) < 5 { return known.command }
        let command = OwnCommand(to: folder)
        known = (command, Date())
        return command
    }
}
