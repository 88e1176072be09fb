"""What notices say, in the languages that they are told in."""

from collections.abc import Mapping

from tidewaiter.core.settings.notices import Language

_ENGLISH = {
    "denied": "{image} is denied for {environment}",
    "denied-many": "{count} images are denied for {environment}",
    "rule": "{rule}: {message}",
    "remedy": "change: {remedy}",
    "runs": "runs as {workload}",
    "waiver": "Waiver {waiver} ends at {until}",
    "waiver-scope": "for {scope}",
    "owner": "owner: {owner}",
    "nobody": "nobody is known",
    "renew": "Mend what it covers, or have it approved anew, before then.",
    "pipeline-done": "Pipeline {run} of {subject} is done",
    "pipeline-denied": "Pipeline {run} of {subject}: policy denies the image",
    "pipeline-failed": "Pipeline {run} of {subject} failed",
    "pipeline-cancelled": "Pipeline {run} of {subject} was cancelled",
    "pipeline-poisoned": "Pipeline {run} of {subject} was stopped after several tries",
    "next": "next: {next}",
    "advisory": "{advisory} ({severity}) reaches {count} running workloads",
    "workload": "{workload} ({owner}) runs {package}",
    "fix": "clears {images} images: {name} to {to}",
    "base-fix": "clears {images} images: rebuild on a newer {name}",
    "unknown-images": "{count} running workloads are of images that were not inspected",
    "advisories-cut": "There are more new advisories than are looked at here; `tidewaiter affected` tells of each.",
    "more": "and {count} more",
    "joined": "{count} notices",
    "test": "This is a test; nothing happened",
    "test-line": "Notices for {name} will look like this.",
    "time": "at {time}",
}
_CHINESE = {
    "denied": "{image} 未获准进入 {environment}",
    "denied-many": "{count} 个镜像未获准进入 {environment}",
    "rule": "{rule}：{message}",
    "remedy": "修改方法：{remedy}",
    "runs": "正在运行于 {workload}",
    "waiver": "豁免 {waiver} 将于 {until} 到期",
    "waiver-scope": "范围：{scope}",
    "owner": "负责人：{owner}",
    "nobody": "无人登记",
    "renew": "请在到期前修复所涉问题，或重新申请批准。",
    "pipeline-done": "流水线 {run}（{subject}）已完成",
    "pipeline-denied": "流水线 {run}（{subject}）：策略拒绝该镜像",
    "pipeline-failed": "流水线 {run}（{subject}）失败",
    "pipeline-cancelled": "流水线 {run}（{subject}）已取消",
    "pipeline-poisoned": "流水线 {run}（{subject}）多次尝试后停止",
    "next": "下一步：{next}",
    "advisory": "{advisory}（{severity}）影响 {count} 个正在运行的工作负载",
    "workload": "{workload}（{owner}）运行 {package}",
    "fix": "可修复 {images} 个镜像：{name} 升级到 {to}",
    "base-fix": "可修复 {images} 个镜像：在更新的 {name} 上重新构建",
    "unknown-images": "另有 {count} 个正在运行的工作负载所用镜像未经检查",
    "advisories-cut": "新公告太多，此处未全部查看；`tidewaiter affected` 可逐一查询。",
    "more": "以及另外 {count} 项",
    "joined": "{count} 条通知",
    "test": "这是一条测试消息，没有发生任何事情",
    "test-line": "发给 {name} 的通知将如此显示。",
    "time": "时间 {time}",
}
WORDS: Mapping[Language, Mapping[str, str]] = {"en": _ENGLISH, "zh": _CHINESE}
"""By language and by what is to be said."""


def say(language: Language, what: str, **values: object) -> str:
    """The words for `what`, with the values in their places."""
    return WORDS[language][what].format(**values)
