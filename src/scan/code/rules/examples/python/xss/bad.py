from django.http import HttpResponse
from django.utils.safestring import mark_safe


def hello(request):
    name = request.GET.get("name", "")
    return HttpResponse("<h1>Hello %s</h1>" % name)  # BAD


def bold(request):
    return {"html": mark_safe("<b>" + request.GET["x"] + "</b>")}  # BAD
