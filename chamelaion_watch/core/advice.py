"""What each error code means to a person: what happened, what to do, and whether it is tried again by itself.

One table for notes, pages and the command line. The words are for an editor at a shared drive: no status codes, no
jargon, no promise that the daemon does not keep. Codes are stable slugs and are never renamed.
"""

from __future__ import annotations

from dataclasses import dataclass

from chamelaion_watch.core.remote_errors import remote_code
from chamelaion_watch.core.text import printable

__all__ = ["ADVICE", "CARETAKER", "Advice", "advice_for", "remote_code"]


@dataclass(frozen=True, slots=True)
class Advice:
    """`will_retry` is the daemon's reaction at first; a failed job has used its tries up."""

    title: str
    what_happened: str
    what_to_do: str
    will_retry: bool = False


CARETAKER = "the person who looks after the lip-sync service here"
_WAIT = "Nothing: it goes on by itself."
_NEW_EXPORT = "Export or copy the file again; that alone starts a new try."

ADVICE: dict[str, Advice] = {
    # -- the files ------------------------------------------------------------------------------------
    "input_changed": Advice(
        "source changed",
        "A source file changed while it was being sent, so nothing was ordered from it.",
        "Nothing: the new content is taken as soon as it is complete.",
        will_retry=True,
    ),
    "input_vanished": Advice(
        "source gone",
        "A source file was moved, renamed or deleted before it was sent.",
        "Put it back if the lip-synced video is still wanted.",
        will_retry=True,
    ),
    "input_unreadable": Advice(
        "source cannot be read",
        "A source file could not be read to its end.",
        "Check that the file plays and is not locked by another program; if it does not play, copy it again.",
        will_retry=True,
    ),
    "withdrawn": Advice(
        "upload stopped", "The upload was stopped before it was complete; nothing was ordered.", _WAIT, will_retry=True
    ),
    "unreadable": Advice(
        "file cannot be read",
        "One of the two files is empty, damaged, cut off, or is not the kind of file that its name says.",
        f"Play both files to the end to see which one it is. {_NEW_EXPORT}",
    ),
    "no_picture": Advice(
        "no picture",
        "The video file has no picture in it, so there is no mouth to move.",
        f"Check that the two files were not mixed up, and that the picture was exported. {_NEW_EXPORT}",
    ),
    "no_sound": Advice(
        "no sound",
        "The audio file has no sound in it.",
        f"Check that the right track was exported. {_NEW_EXPORT}",
    ),
    "duration_mismatch": Advice(
        "lengths differ",
        "The video and the audio have clearly different lengths, so they may not belong together.",
        "Check that this is the right audio for this video, and replace the wrong file.",
    ),
    # -- what the service says about this pair --------------------------------------------------------
    "rejected": Advice(
        "not accepted",
        "The lip-sync service did not accept these two files.",
        "Check that the video is an MP4 and the audio a WAV or MP3, and that both play. Then replace the wrong one.",
    ),
    "remote_failed": Advice(
        "rendering failed",
        "The lip-sync service took the files but could not make a lip-synced video from them.",
        f"Read its reason below. If it says nothing that helps, try once more, then ask {CARETAKER}.",
    ),
    "no_face": Advice(
        "no face found",
        "The lip-sync service found no face in the video that it could work with.",
        "Use a shot in which the speaker's face is large enough, lit and seen from the front for most of the time.",
    ),
    "media_problem": Advice(
        "format not accepted",
        "The lip-sync service could not work with the picture or the sound of these files.",
        "Export the video again as MP4 (H.264) and the audio as WAV or MP3; that alone starts a new try.",
    ),
    "too_long": Advice(
        "too long",
        "The files are longer than the lip-sync service takes.",
        "Cut them into shorter parts and drop the parts in as separate pairs.",
    ),
    "too_large": Advice(
        "too large",
        "The files are larger than the lip-sync service takes.",
        "Export the video with a smaller picture or a lower data rate.",
    ),
    "remote_timed_out": Advice(
        "rendering took too long",
        "The lip-sync service gave up because the work took it too long.",
        "Try once more. If it happens again, use a shorter part of the video.",
    ),
    "remote_internal": Advice(
        "the service had a fault",
        "The lip-sync service had a fault of its own while it was working on these files.",
        f"Try again later. If it happens again, ask {CARETAKER}.",
    ),
    "stuck": Advice(
        "takes unusually long",
        "The lip-sync service has been working on these files for unusually long and has not said how it ended.",
        f"Nothing is lost and it is still being watched. If it is urgent, ask {CARETAKER}.",
        will_retry=True,
    ),
    "unknown_request": Advice(
        "the service does not know it",
        "The lip-sync service says that it does not know this order.",
        "Nothing yet: it is asked again for some minutes before anything is concluded.",
        will_retry=True,
    ),
    "doubtful": Advice(
        "needs a decision",
        "The files may or may not have reached the lip-sync service, and it gives no answer that settles it.",
        "Decide whether to order it again. That may cost money a second time, so it is not done by itself.",
    ),
    # -- the way to the service -----------------------------------------------------------------------
    "transient": Advice(
        "passing trouble",
        "Something went wrong that usually passes.",
        f"Try again later, or ask {CARETAKER}.",
        will_retry=True,
    ),
    "timed_out": Advice(
        "no answer",
        "The lip-sync service did not answer in time.",
        f"Try again later. If it goes on, ask {CARETAKER} to check the network.",
        will_retry=True,
    ),
    "stalled": Advice(
        "transfer stood still",
        "The transfer of a file stood still for too long.",
        f"Try again later. If it goes on, ask {CARETAKER} to check the network and the shared drive.",
        will_retry=True,
    ),
    "connection_reset": Advice(
        "connection broke",
        "The connection to the lip-sync service broke off.",
        f"Try again later. If it goes on, ask {CARETAKER} to check the network.",
        will_retry=True,
    ),
    "server_error": Advice(
        "the service has a fault",
        "The lip-sync service had a fault of its own and did not take the files.",
        f"Try again later. If it goes on, ask {CARETAKER}.",
        will_retry=True,
    ),
    "not_the_service": Advice(
        "something else answered",
        "Something other than the lip-sync service answered in its place, such as a sign-in page of the network.",
        f"Ask {CARETAKER} to check the network.",
        will_retry=True,
    ),
    "odd_answer": Advice(
        "answer not understood",
        "The lip-sync service gave an answer that could not be understood.",
        f"Try again later. If it goes on, ask {CARETAKER}.",
        will_retry=True,
    ),
    "redirect": Advice(
        "sent elsewhere",
        "The lip-sync service pointed to another address. The files are not sent to strangers.",
        f"Ask {CARETAKER} to check the address of the service.",
    ),
    # -- the account ----------------------------------------------------------------------------------
    "account": Advice("service pauses", "The lip-sync service takes nothing at the moment.", _WAIT, will_retry=True),
    "rate_limited": Advice(
        "too many at once", "The lip-sync service asks everybody to slow down for a while.", _WAIT, will_retry=True
    ),
    "quota_exhausted": Advice(
        "balance used up",
        "The balance with the lip-sync service is used up, so it takes nothing new.",
        f"Ask {CARETAKER} to top it up; it then goes on by itself.",
        will_retry=True,
    ),
    "unauthorized": Advice(
        "key not accepted",
        "The lip-sync service does not accept the key of this installation.",
        f"Ask {CARETAKER} to put in a valid key; it then goes on by itself.",
        will_retry=True,
    ),
    "unreachable": Advice(
        "service not reachable",
        "The lip-sync service cannot be reached at the moment.",
        f"Nothing: it goes on by itself. If it lasts, ask {CARETAKER} to check the network.",
        will_retry=True,
    ),
    "daily_limit": Advice(
        "limit of the day reached",
        "As many videos as this installation allows in one day were ordered.",
        f"Nothing: it goes on tomorrow. Ask {CARETAKER} if it is urgent.",
        will_retry=True,
    ),
    # -- the result -----------------------------------------------------------------------------------
    "output": Advice(
        "result cannot be saved",
        "The lip-synced video is finished, but it cannot be saved in its folder.",
        "Check that the folder is there and may be written to. The result is kept and saved as soon as that works.",
        will_retry=True,
    ),
    "link_expired": Advice(
        "link was too old",
        "The link to the finished video was no longer valid when it was fetched.",
        f"Try again later, or ask {CARETAKER}.",
        will_retry=True,
    ),
    "not_a_video": Advice(
        "result is no video",
        "What the lip-sync service delivered as the result is not a video.",
        f"Ask {CARETAKER} to look at it before it is ordered again.",
        will_retry=True,
    ),
    "cut": Advice(
        "result incomplete",
        "The finished video could not be fetched to its end.",
        f"Try again later. If it goes on, ask {CARETAKER} to check the network.",
        will_retry=True,
    ),
    "media_host": Advice(
        "result not delivered",
        "The place where the finished video lies did not hand it out.",
        f"Try again later, or ask {CARETAKER}.",
        will_retry=True,
    ),
    "no_output": Advice(
        "finished without a result",
        "The lip-sync service says that it is finished, but names no video.",
        f"Ask {CARETAKER} to look at it before it is ordered again.",
        will_retry=True,
    ),
    "output_url_refused": Advice(
        "result at a forbidden place",
        "The lip-sync service named a place for the result from which nothing may be fetched.",
        f"Ask {CARETAKER}: this should not happen.",
    ),
    "output_too_large": Advice(
        "result too large",
        "The finished video is larger than the space that is left or allowed for it.",
        f"Make room on the drive, or ask {CARETAKER}.",
        will_retry=True,
    ),
    # -- the folder -----------------------------------------------------------------------------------
    "full": Advice(
        "drive is full",
        "There is no room on the drive for the finished video.",
        "Make room on the drive. The result is kept and saved as soon as there is room.",
        will_retry=True,
    ),
    "output_names": Advice(
        "too many versions",
        "Every name for the finished video is taken by an older version.",
        "Remove or rename old versions. The result is kept until there is a free name.",
        will_retry=True,
    ),
    "output_path": Advice(
        "no place for results",
        "The folder for finished videos cannot be used.",
        f"Ask {CARETAKER} to look at the folder for results. The result is kept until then.",
        will_retry=True,
    ),
    "output_too_big": Advice(
        "too large for the drive",
        "The drive does not take files as large as the finished video.",
        f"Ask {CARETAKER} to use a drive that takes large files. The result is kept until then.",
        will_retry=True,
    ),
    "read_only": Advice(
        "drive is read-only",
        "The finished video cannot be saved because the drive can only be read.",
        f"Ask {CARETAKER} to make the folder writable. The result is kept until then.",
        will_retry=True,
    ),
    "denied": Advice(
        "no permission",
        "The folder may not be read or written by the lip-sync service here.",
        f"Ask {CARETAKER} to give it permission. Finished results are kept until then.",
        will_retry=True,
    ),
    "missing": Advice(
        "folder is missing",
        "The folder is not there.",
        "Put it back, or connect the drive again; nothing is lost until then.",
        will_retry=True,
    ),
    "not_mounted": Advice(
        "drive is not connected",
        "The drive with this folder is not connected.",
        "Connect it again; nothing is lost until then.",
        will_retry=True,
    ),
    "foreign": Advice(
        "served from elsewhere",
        "Another installation already looks after this folder.",
        f"Ask {CARETAKER} which of the two should do it.",
        will_retry=True,
    ),
    "stale": Advice(
        "drive does not answer", "The drive with this folder does not answer properly.", _WAIT, will_retry=True
    ),
    "hung": Advice(
        "drive does not answer", "The drive with this folder does not answer at all.", _WAIT, will_retry=True
    ),
    # -- which files belong together ------------------------------------------------------------------
    "two_videos": Advice(
        "two videos",
        "Two videos have the same name, so it is not clear which one is meant.",
        "Keep the right one, and rename the other or move it elsewhere.",
    ),
    "two_audios": Advice(
        "two audios",
        "Two audio files fit the same video and language, so it is not clear which one is meant.",
        "Keep the right one and move the other elsewhere, or add a language to its name, such as .de or .fr.",
    ),
    "twins": Advice(
        "names look the same",
        "Two files have names that look the same but are written differently inside.",
        "Keep one of them, and rename the other or move it elsewhere.",
    ),
    "same_name": Advice(
        "same result name",
        "Two pairs would give their finished videos the same name.",
        "Rename one of them so that the names differ in more than capital letters.",
    ),
    "stray": Advice(
        "belongs to nothing",
        "A file lies here that cannot be matched to any other with certainty.",
        "Give the video and its audio the same name, or move the file elsewhere.",
    ),
    "no_audio": Advice(
        "waits for its audio",
        "The video is here, but no audio with the same name.",
        "Add the audio under the same name as the video.",
        will_retry=True,
    ),
    "no_video": Advice(
        "waits for its video",
        "The audio is here, but no video with the same name.",
        "Add the video under the same name as the audio.",
        will_retry=True,
    ),
    # -- ourselves ------------------------------------------------------------------------------------
    "internal": Advice(
        "fault in the program",
        "The program that looks after this folder ran into a fault of its own.",
        f"Try again. If it happens again, ask {CARETAKER} and give them the last line of this note.",
    ),
    "poisonous": Advice(
        "set aside",
        "The program that looks after this folder stopped several times while it was working on these files, "
        "so they were set aside and the others go on.",
        f"{_NEW_EXPORT} Tell {CARETAKER} about it.",
    ),
    "ledger": Advice(
        "records not available",
        "The program cannot reach its own records. Without them nothing is ordered, so that nothing is paid twice.",
        f"Ask {CARETAKER}.",
        will_retry=True,
    ),
}

_ALIASES = {
    "dns": "unreachable",
    "refused": "unreachable",
    "no_answer": "unreachable",
    "tls": "unreachable",
    "proxy": "unreachable",
    "no_length": "media_host",
}


def advice_for(code: str, message: str = "") -> Advice:
    """Return what `code` means to a person; an unknown code is answered in general words with its name."""
    if code == "remote_failed":
        code = remote_code(message)
    found = ADVICE.get(_ALIASES.get(code, code))
    return found or Advice(
        printable(code, 40).replace("_", " ") or "trouble",
        "Something went wrong that has no explanation of its own.",
        f"Try again. If it happens again, ask {CARETAKER} and give them the last line of this note.",
    )
